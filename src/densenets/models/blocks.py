"""The modules of a DenseNet: dense layer, dense block, transition, and all before the classifier.

Each is written in PyTorch's own modules, which is what hooks and tracing see; how it is run is up to the
execution (`densenets.ops.dense_block`).

Shapes: N batch, C channels, *sides the spatial sides, k growth rate, L layers of a block.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.models.densenet_config import DenseNetConfig
from densenets.ops.dense_block import FeatureRun, dense_block, transition
from densenets.ops.execution import Execution
from densenets.ops.interception import detect_replaced_code
from densenets.ops.layers import BlockClasses

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class Features(nn.Sequential):
    """All modules from the stem to the last BN, some of which may run fused.

    These are the modules of an ImageNet stem, and a dense block with the transition behind it.
    """

    def __init__(self, modules: OrderedDict[str, nn.Module]) -> None:
        super().__init__(modules)
        self.execution: Execution = "auto"

    def forward(self, input: Tensor) -> Tensor:
        """N x C x *sides -> N x num_features x *sides / stride."""
        if is_scripting():
            for module in self:
                input = module(input)
            return input
        else:
            run, modules = FeatureRun(input, BLOCK_CLASSES, self.execution), list(self)
            while modules:
                input, call, count = run.next(input, modules)
                outputs = call(input)
                input = outputs if call is modules[0] else outputs[-1]
                modules = modules[count:]
            return run.end(input)


class DenseBlock(nn.ModuleDict):
    """L dense layers, each of which reads the outputs of all layers before it: N x C0 -> N x (C0 + L k)."""

    def __init__(self, config: DenseNetConfig, layer_in_channels: list[int]) -> None:
        super().__init__(
            {
                f"denselayer{number}": DenseLayer(config, in_channels)
                for number, in_channels in enumerate(layer_in_channels, start=1)
            }
        )
        self.execution: Execution = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """N x C0 x *sides -> N x (C0 + L k) x *sides."""
        if is_scripting():
            features = [x]
            for layer in self.values():
                features.append(layer(torch.cat(features, dim=1)))
            return torch.cat(features, dim=1)
        else:
            return dense_block(x, self, BLOCK_CLASSES, self.execution)


class DenseLayer(nn.Module):
    """H_l: BN-ReLU-conv3x3, or BN-ReLU-conv1x1-BN-ReLU-conv3x3 with a bottleneck: N x C -> N x k."""

    if TYPE_CHECKING:  # TorchScript reads annotations, and does not know these
        norm1: _BatchNorm
        conv1: _ConvNd
    __constants__ = ("bottleneck",)

    def __init__(self, config: DenseNetConfig, in_channels: int) -> None:
        super().__init__()
        dims, k = config.spatial_dims, config.growth_rate
        self.norm1 = _batch_norm(config, in_channels)
        self.relu1 = nn.ReLU()
        if config.bottleneck:
            width = config.bottleneck_channels
            self.conv1 = _convolution(dims, in_channels, width, kernel_size=1)
            self.dropout1 = nn.Dropout(config.dropout)
            self.norm2 = _batch_norm(config, width)
            self.relu2 = nn.ReLU()
            self.conv2 = _convolution(dims, width, k, kernel_size=3)
            self.dropout2 = nn.Dropout(config.dropout)
        else:
            self.conv1 = _convolution(dims, in_channels, k, kernel_size=3)
            self.dropout1 = nn.Dropout(config.dropout)
        self.bottleneck = config.bottleneck

    def forward(self, features: Tensor) -> Tensor:
        """N x C x *sides -> N x k x *sides."""
        x: Tensor = self.dropout1(self.conv1(self.relu1(self.norm1(features))))
        if self.bottleneck:
            x = self.dropout2(self.conv2(self.relu2(self.norm2(x))))
        return x


class Transition(nn.Module):
    """BN-ReLU-conv1x1-average pool 2x2 between blocks: N x C -> N x floor(theta C), half the side."""

    if TYPE_CHECKING:
        norm: _BatchNorm
        conv: _ConvNd

    def __init__(self, config: DenseNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = _batch_norm(config, in_channels)
        self.relu = nn.ReLU()
        self.conv = _convolution(config.spatial_dims, in_channels, out_channels, kernel_size=1)
        self.dropout = nn.Dropout(config.dropout)
        self.pool = _AVERAGE_POOL[config.spatial_dims](kernel_size=2, stride=2)
        self.execution: Execution = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """N x C x *sides -> N x floor(theta C) x *sides / 2."""
        if is_scripting():
            return self.pool(self.dropout(self.conv(self.relu(self.norm(x)))))
        else:
            return transition(x, self, BLOCK_CLASSES, self.execution)


BLOCK_CLASSES = BlockClasses(DenseBlock, DenseLayer, Transition)
detect_replaced_code(*BLOCK_CLASSES)


def make_features(config: DenseNetConfig) -> Features:
    """Build all modules of a DenseNet from the stem to the last BN, with torchvision's names."""
    return Features(OrderedDict(_feature_modules(config)))


def _feature_modules(config: DenseNetConfig) -> Iterator[tuple[str, nn.Module]]:
    dims, channels = config.spatial_dims, config.stem_channels
    if config.stem == "imagenet":
        yield "conv0", _convolution(dims, config.in_channels, channels, kernel_size=7, stride=2)
        yield "norm0", _batch_norm(config, channels)
        yield "relu0", nn.ReLU()
        yield "pool0", _MAX_POOL[dims](kernel_size=3, stride=2, padding=1)
    else:
        yield "conv0", _convolution(dims, config.in_channels, channels, kernel_size=3)
    for block in config.blocks():
        yield f"denseblock{block.number}", DenseBlock(config, block.layer_in_channels)
        if block.number < len(config.block_layers):
            yield (
                f"transition{block.number}",
                Transition(config, block.out_channels, block.transition_out_channels),
            )
    # torchvision's name for the last norm, whatever the number of blocks.
    yield "norm5", _batch_norm(config, config.num_features)


def _convolution(
    dims: int, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1
) -> _ConvNd:
    """A convolution in `dims` dimensions, without bias, padded so that only its stride changes the sides."""
    conv: _ConvNd = _CONVOLUTION[dims](
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return conv


def _batch_norm(config: DenseNetConfig, channels: int) -> _BatchNorm:
    """Batch normalisation of maps of so many channels."""
    norm: _BatchNorm = _BATCH_NORM[config.spatial_dims](channels, eps=config.norm_epsilon)
    return norm
