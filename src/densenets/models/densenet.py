"""DenseNet (Huang et al. 2017, arXiv 1608.06993).

- one module for every variant: a variant is a config (`DenseNetConfig`)
- torchvision's key names, so published weights load strictly
- dropout, initialisation and stem at the places of the official code
- one, two or three spatial dimensions; any image that leaves the last block a pixel
- how a block is run (stored or recomputed) is an execution, which the weights never show

Shapes: N batch, C channels, *sides the spatial sides, k growth rate, L layers of a block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import _has_any_global_hook

from densenets.models.configs.densenet import DenseNetConfig
from densenets.models.initialization import he_normal_, linear_uniform_
from densenets.models.network import Network
from densenets.ops.dense_block import (
    dense_block,
    dense_block_and_transition,
    explain_execution,
    stem,
    transition,
)
from densenets.ops.execution import Execution, check_execution
from densenets.ops.layers import UnitModules
from densenets.ops.obstacles import interference

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class DenseNet(Network):
    """A densely connected network: N x C x *sides -> N x classes logits.

    Args:
        config: what the network is.
        execution: how its dense blocks run: "reference" stores what autograd stores, "recompute" makes
            concatenations and BN-ReLU again in the backward pass, "fused" needs neither, "fused-lean" makes
            the bottlenecks again too, "auto" takes the fastest that can run.
        generator: where the initial weights are drawn from; PyTorch's own without one.

    Attributes:
        features: stem, blocks, transitions, and the last BN and ReLU.
        classifier: the linear layer; any module that reads N x num_features can take its place.

    Raises:
        InputError: no execution has this name.
    """

    config: DenseNetConfig

    def __init__(
        self,
        config: DenseNetConfig,
        execution: Execution = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(config)
        self.features = Features(OrderedDict(_feature_modules(config)))
        self.classifier: nn.Module = nn.Linear(config.num_features, config.num_classes)
        self.execution = execution
        self.initialize(generator)

    @property
    def execution(self) -> Execution:
        """How the dense blocks run. May be set at any time; the weights stay."""
        return self._execution

    @execution.setter
    def execution(self, execution: Execution) -> None:
        check_execution(execution)
        self._execution: Execution = execution
        for module in self.features.modules():
            if isinstance(module, Features | DenseBlock | Transition):
                module.execution = execution

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as the official code does.

        Convolutions from a normal distribution with variance 2 / (kernel pixels * out_channels), which
        is He's with fan_out; BN starts at 1 and 0; the classifier's bias at 0.
        """
        for module in self.modules():
            if isinstance(module, _ConvNd):
                he_normal_(module.weight, "fan_out", generator)
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                linear_uniform_(module, generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps, after the last BN and ReLU: N x C x *sides -> N x num_features x *sides / stride.

        Raises:
            InputError: the channels are not the config's, or the image leaves the last block no pixel.
        """
        self.config.check_input(tuple(x.shape))
        return self.features(self._in_best_layout(x))

    def _in_best_layout(self, x: Tensor) -> Tensor:
        """Channels last where the blocks work in that form; the stem is faster in it too."""
        choice = explain_execution(self.execution, x.device, x.dtype)
        layout = _CHANNELS_LAST.get(x.dim())
        fused = choice.execution in ("fused", "fused-lean") and choice.native
        return x.contiguous(memory_format=layout) if fused and layout is not None else x

    def forward_intermediates(self, x: Tensor) -> dict[int, Tensor]:
        """The richest map at every stride, after its BN and ReLU, as segmentation and detection use them.

        Returns:
            stride -> N x channels x *sides / stride; the last is `forward_features`.
        """
        self.config.check_input(tuple(x.shape))
        maps: dict[int, Tensor] = {}
        stride = 1
        for name, module in self.features.named_children():
            if name == "conv0":
                stride = 2 if self.config.stem == "imagenet" else 1
            if isinstance(module, Transition):
                maps[stride] = module.activate(x)
                x = module.reduce(maps[stride])
                stride *= 2
                continue
            x = module(x)
            if name in ("relu0", "relu5"):
                maps[stride] = x
            if name == "pool0":
                stride *= 2
        return maps

    @property
    def feature_channels(self) -> dict[int, int]:
        """Stride -> channels of `forward_intermediates`."""
        imagenet = self.config.stem == "imagenet"
        first = 4 if imagenet else 1
        channels = {first * 2**i: block.out_channels for i, block in enumerate(self.config.blocks())}
        return {2: self.config.stem_channels, **channels} if imagenet else channels


class Features(nn.Sequential):
    """All modules in front of the classifier, some of which may run as one.

    These are the four modules of an ImageNet stem, and a dense block with the transition behind it.
    """

    execution: Execution = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """N x C x *sides -> N x num_features x *sides / stride."""
        modules = dict(self.named_children())
        names = list(modules)
        done: set[str] = set()
        for name, next_name in zip(names, [*names[1:], ""], strict=True):
            module, following = modules[name], modules.get(next_name)
            if name in done:
                continue
            if name == "conv0" and modules.keys() >= {"norm0", "relu0", "pool0"}:
                norm, relu, pool = (modules[part] for part in ("norm0", "relu0", "pool0"))
                x = stem(x, module, norm, relu, pool, self.execution)
                done |= {"norm0", "relu0", "pool0"}
            elif _are_pair(module, following):
                block = cast(DenseBlock, module)
                x = dense_block_and_transition(
                    x, block.layers(), cast(Transition, following), block.execution
                )
                done.add(next_name)
            else:
                x = module(x)
        return x


def _are_pair(block: nn.Module, transition: nn.Module | None) -> bool:
    """Whether they are a dense block and its transition, and nobody wants to see either of them called."""
    if type(block) is not DenseBlock or type(transition) is not Transition:
        return False
    watched = interference(block) or interference(transition) or _has_any_global_hook()
    return not watched and block.execution == transition.execution


class DenseBlock(nn.ModuleDict):
    """L dense layers, each of which reads all maps before it: N x C0 -> N x (C0 + L k)."""

    def __init__(self, config: DenseNetConfig, reads: list[int]) -> None:
        super().__init__(
            {
                f"denselayer{number}": DenseLayer(config, channels)
                for number, channels in enumerate(reads, start=1)
            }
        )
        self.execution: Execution = "auto"

    def layers(self) -> list[DenseLayer]:
        """The layers, in order."""
        return [cast(DenseLayer, layer) for layer in self.values()]

    def forward(self, x: Tensor) -> Tensor:
        """N x C0 x *sides -> N x (C0 + L k) x *sides."""
        return dense_block(x, self.layers(), self.execution)


class DenseLayer(nn.Module):
    """H_l: BN-ReLU-conv3x3, or BN-ReLU-conv1x1-BN-ReLU-conv3x3 with a bottleneck: N x C -> N x k."""

    norm1: _BatchNorm
    conv1: _ConvNd

    def __init__(self, config: DenseNetConfig, channels: int) -> None:
        super().__init__()
        dims, k = config.spatial_dims, config.growth_rate
        self.norm1 = _batch_norm(dims, channels)
        self.relu1 = nn.ReLU()
        if config.bottleneck:
            width = config.bottleneck_channels
            self.conv1 = _convolution(dims, channels, width, kernel_size=1)
            self.dropout1 = nn.Dropout(config.dropout)
            self.norm2 = _batch_norm(dims, width)
            self.relu2 = nn.ReLU()
            self.conv2 = _convolution(dims, width, k, kernel_size=3)
            self.dropout2 = nn.Dropout(config.dropout)
        else:
            self.conv1 = _convolution(dims, channels, k, kernel_size=3)
            self.dropout1 = nn.Dropout(config.dropout)
        self.bottleneck = config.bottleneck

    def forward(self, features: Tensor) -> Tensor:
        """N x C x *sides -> N x k x *sides."""
        return self.after_first_convolution(self.conv1(self.relu1(self.norm1(features))))

    def after_first_convolution(self, x: Tensor) -> Tensor:
        """Dropout and, with a bottleneck, BN-ReLU-conv3x3 and dropout: -> N x k x *sides."""
        x = self.dropout1(x)
        if self.bottleneck:
            x = self.dropout2(self.conv2(self.relu2(self.norm2(x))))
        return x

    def units(self) -> list[UnitModules]:
        """All that it computes: two with a bottleneck, else one. A subclass may compute anything: none."""
        if type(self) is not DenseLayer:
            return []
        first = UnitModules(self.norm1, self.relu1, self.conv1, self.dropout1)
        if not self.bottleneck:
            return [first]
        return [first, UnitModules(self.norm2, self.relu2, self.conv2, self.dropout2)]


class Transition(nn.Module):
    """BN-ReLU-conv1x1-average pool 2x2 between blocks: N x C -> N x floor(theta C), half the side."""

    norm: _BatchNorm
    conv: _ConvNd

    def __init__(self, config: DenseNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = _batch_norm(config.spatial_dims, in_channels)
        self.relu = nn.ReLU()
        self.conv = _convolution(config.spatial_dims, in_channels, out_channels, kernel_size=1)
        self.dropout = nn.Dropout(config.dropout)
        self.pool = _AVERAGE_POOL[config.spatial_dims](kernel_size=2, stride=2)
        self.execution: Execution = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """N x C x *sides -> N x floor(theta C) x *sides / 2."""
        return transition(x, self, self.execution)

    def units(self) -> list[UnitModules]:
        """The one before its pooling. A subclass may compute anything: none."""
        known = type(self) is Transition
        return [UnitModules(self.norm, self.relu, self.conv, self.dropout)] if known else []

    def activate(self, x: Tensor) -> Tensor:
        """The half before the convolution, BN-ReLU: same shape."""
        return self.relu(self.norm(x))

    def reduce(self, activated: Tensor) -> Tensor:
        """The half that makes it smaller, conv1x1, dropout and average pool."""
        return self.pool(self.dropout(self.conv(activated)))


def _feature_modules(config: DenseNetConfig) -> Iterator[tuple[str, nn.Module]]:
    dims, channels = config.spatial_dims, config.stem_channels
    if config.stem == "imagenet":
        yield "conv0", _convolution(dims, config.in_channels, channels, kernel_size=7, stride=2)
        yield "norm0", _batch_norm(dims, channels)
        yield "relu0", nn.ReLU()
        yield "pool0", _MAX_POOL[dims](kernel_size=3, stride=2, padding=1)
    else:
        yield "conv0", _convolution(dims, config.in_channels, channels, kernel_size=3)
    for block in config.blocks():
        yield f"denseblock{block.number}", DenseBlock(config, block.reads)
        if block.number < len(config.block_layers):
            yield (
                f"transition{block.number}",
                Transition(config, block.out_channels, block.handed_on),
            )
    # torchvision's name for the last norm, whatever the number of blocks.
    yield "norm5", _batch_norm(dims, config.num_features)
    yield "relu5", nn.ReLU()


def _convolution(
    dims: int, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1
) -> _ConvNd:
    convolution: _ConvNd = _CONVOLUTION[dims](
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return convolution


def _batch_norm(dims: int, channels: int) -> _BatchNorm:
    norm: _BatchNorm = _BATCH_NORM[dims](channels)
    return norm
