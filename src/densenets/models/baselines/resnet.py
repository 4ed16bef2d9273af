"""ResNets and relatives: pre-activation, wide, Stochastic Depth, plain.

- one module for every variant: a variant is a config (`ResNetConfig`)
- the ImageNet networks have torchvision's key names and its place of the stride (the 3x3 of a bottleneck),
  so its weights load strictly
- bottlenecks with pre-activation have the stride at the first 1x1, as in their authors' code

Shapes: N batch, C channels, H x W pixels.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from densenets.models.baselines.resnet_config import ResNetConfig, UnitChannels
from densenets.models.initialization import he_normal_, linear_uniform_
from densenets.models.network import Network, PathDraws, make_head


class ResNet(Network):
    """A residual network: N x C x H x W -> N x classes logits.

    Args:
        config: of the network.
        generator: where the initial weights are drawn from; PyTorch's own without one.
    """

    config: ResNetConfig

    def __init__(self, config: ResNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config)
        channels, imagenet = config.stem_channels, config.stem == "imagenet"
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = _convolution(config.in_channels, channels, kernel, stride)
        # Units with pre-activation begin with their own; the ImageNet stem has one all the same.
        has_stem_norm = imagenet or not config.pre_activation
        self.bn1 = nn.BatchNorm2d(channels) if has_stem_norm else nn.Identity()
        self.relu = nn.ReLU() if has_stem_norm else nn.Identity()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        for stage, units in groupby(config.units(), key=lambda unit: unit.stage):
            modules = (_make_unit(config, unit, self.paths) for unit in units)
            self.add_module(f"layer{stage}", nn.Sequential(*modules))
        last = (nn.BatchNorm2d(config.num_features), nn.ReLU()) if config.pre_activation else ()
        self.last = nn.Sequential(*last)
        self.fc: nn.Module = make_head(config.num_features, config.num_classes)
        self.record_structure()
        self.initialize(generator)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: He's normal distribution; BN starts at 1 and 0, the last bias at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_normal_(module.weight, self.config.initialization, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                linear_uniform_(module, generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps: N x C x H x W -> N x num_features x H / stride x W / stride.

        Raises:
            InputError: the modules cannot read the image's channels.
        """
        return self.checked_call(self._features_and_relu, x)

    def _features_and_relu(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, len(self.config.stage_units) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.last(x)


class _Unit(nn.Module):
    """Base class of residual units: the shortcut, and Stochastic Depth."""

    def __init__(self, config: ResNetConfig, channels: UnitChannels, paths: PathDraws) -> None:
        super().__init__()
        self.survival, self.paths = channels.survival, paths
        self.shortcut = config.shortcut
        self.stride = channels.stride
        self.added_channels = channels.out_channels - channels.in_channels
        self.downsample: nn.Module | None = None

    def is_skipped(self) -> bool:
        """Whether this training step skips the unit, drawn anew at each call (Stochastic Depth)."""
        return self.training and self.survival < 1 and self.paths.draw() >= self.survival

    def apply_shortcut(self, x: Tensor) -> Tensor:
        """The shortcut past the residual branch: N x C_in x H x W -> N x C_out x H / stride x W / stride."""
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride > 1:
            x = (
                avg_pool2d(x, self.stride, ceil_mode=True)
                if self.shortcut == "pooled"
                else x[:, :, :: self.stride, :: self.stride]
            )
        return pad(x, (0, 0, 0, 0, 0, self.added_channels)) if self.added_channels else x

    def add_residual(self, shortcut: Tensor, residual: Tensor) -> Tensor:
        """Shortcut plus residual; outside training the residual is scaled by its survival probability."""
        if self.shortcut == "none":
            return residual
        if self.survival < 1 and not self.training:
            residual = residual * self.survival
        return shortcut + residual


class PostActivationUnit(_Unit):
    """Convolution-BN-ReLU two or three times, the last ReLU after the sum: N x C_in -> N x C_out."""

    def __init__(self, config: ResNetConfig, channels: UnitChannels, paths: PathDraws) -> None:
        super().__init__(config, channels, paths)
        in_channels, out_channels, stride = channels.in_channels, channels.out_channels, channels.stride
        if config.unit == "bottleneck":
            width = channels.width
            shapes = [(in_channels, width, 1, 1), (width, width, 3, stride), (width, out_channels, 1, 1)]
        else:
            shapes = [(in_channels, out_channels, 3, stride), (out_channels, out_channels, 3, 1)]
        for number, shape in enumerate(shapes, start=1):
            self.add_module(f"conv{number}", _convolution(*shape))
            self.add_module(f"bn{number}", nn.BatchNorm2d(shape[1]))
        self.relu = nn.ReLU()
        self.convolutions = len(shapes)
        if channels.changes_shape and config.shortcut == "projection":
            self.downsample = nn.Sequential(
                _convolution(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """N x C_in x H x W -> N x C_out x H / stride x W / stride."""
        if self.is_skipped():
            return self.relu(self.apply_shortcut(x))
        residual = x
        for number in range(1, self.convolutions + 1):
            convolution, norm = (self.get_submodule(f"{name}{number}") for name in ("conv", "bn"))
            residual = norm(convolution(residual))
            if number < self.convolutions:
                residual = self.relu(residual)
        if self.shortcut == "none":
            return self.relu(residual)
        return self.relu(self.add_residual(self.apply_shortcut(x), residual))


class PreActivationUnit(_Unit):
    """BN-ReLU-convolution two or three times: N x C_in -> N x C_out.

    A projection reads the output of the first BN-ReLU, any other shortcut the unit's input.
    """

    def __init__(self, config: ResNetConfig, channels: UnitChannels, paths: PathDraws) -> None:
        super().__init__(config, channels, paths)
        in_channels, out_channels, stride = channels.in_channels, channels.out_channels, channels.stride
        if config.unit == "bottleneck":
            width = channels.width
            shapes = [(in_channels, width, 1, stride), (width, width, 3, 1), (width, out_channels, 1, 1)]
        else:
            shapes = [(in_channels, out_channels, 3, stride), (out_channels, out_channels, 3, 1)]
        for number, shape in enumerate(shapes, start=1):
            self.add_module(f"bn{number}", nn.BatchNorm2d(shape[0]))
            self.add_module(f"conv{number}", _convolution(*shape))
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)
        self.convolutions = len(shapes)
        if channels.changes_shape and config.shortcut == "projection":
            self.downsample = _convolution(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """N x C_in x H x W -> N x C_out x H / stride x W / stride."""
        skipped = self.is_skipped()
        if skipped and self.downsample is None:
            return self.apply_shortcut(x)
        activated = self.relu(self.get_submodule("bn1")(x))
        shortcut = x
        if self.shortcut != "none":
            shortcut = self.apply_shortcut(x if self.downsample is None else activated)
        if skipped:
            return shortcut
        residual = self.get_submodule("conv1")(activated)
        for number in range(2, self.convolutions + 1):
            residual = self.relu(self.get_submodule(f"bn{number}")(residual))
            residual = self.get_submodule(f"conv{number}")(self.dropout(residual))
        return self.add_residual(shortcut, residual)


def _make_unit(config: ResNetConfig, channels: UnitChannels, paths: PathDraws) -> nn.Module:
    unit = PreActivationUnit if config.pre_activation else PostActivationUnit
    return unit(config, channels, paths)


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
