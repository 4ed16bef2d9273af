"""The networks that DenseNet is compared with, layer by layer: arithmetic on their configs alone.

Companion classifiers, which only training uses, are not among the rows. Needs no PyTorch.

Shapes: C channels of a map, pixels the product of its sides.
"""

from __future__ import annotations

import math
from functools import singledispatch

from densenets.models.baselines.convnet_config import ConvNetConfig
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.resnet_config import ResNetConfig, UnitChannels
from densenets.models.layer_table.rows import LayerFacts
from densenets.models.network_config import NetworkConfig

_Size = tuple[int, ...]


@singledispatch
def peer_layers(config: NetworkConfig, sides: _Size) -> list[LayerFacts]:
    """The rows of a whole network for images of the given sides."""
    raise AssertionError(f"no rows are known of a {config.title} for {sides}")


@peer_layers.register
def _resnet(config: ResNetConfig, sides: _Size) -> list[LayerFacts]:
    large = config.stem == "imagenet"
    channels = config.stem_channels
    convolved = _halved(sides) if large else sides
    weights = (49 if large else 9) * config.in_channels * channels
    norm = 2 * channels if large or not config.pre_activation else 0
    size = _halved(convolved) if large else convolved
    rows = [_row("stem", size, config.in_channels, channels, weights + norm, weights * math.prod(convolved))]
    for unit in config.units():
        read_size, size = size, tuple(math.ceil(side / unit.stride) for side in size)
        rows.append(_residual_unit(config, unit, read_size, size))
    if config.pre_activation:
        features = config.num_features
        rows.append(_row("last", size, features, features, 2 * features, 0))
    return [*rows, _linear(config.head, config.num_features, config.num_classes)]


def _residual_unit(config: ResNetConfig, unit: UnitChannels, read_size: _Size, size: _Size) -> LayerFacts:
    read, made, width = unit.in_channels, unit.out_channels, unit.width
    before, after = math.prod(read_size), math.prod(size)
    # Of each convolution: what it reads, what it makes, its weights, the pixels of what it makes.
    if config.unit == "bottleneck":
        # With pre-activation the stride is at the first 1x1, otherwise at the 3x3.
        first = after if config.pre_activation else before
        convolutions = [
            (read, width, read * width, first),
            (width, width, 9 * width * width, after),
            (width, made, width * made, after),
        ]
    else:
        convolutions = [(read, made, 9 * read * made, after), (made, made, 9 * made * made, after)]
    # A batch normalisation a convolution: of what it reads with pre-activation, otherwise of what it makes.
    norms = sum(2 * (reads if config.pre_activation else makes) for reads, makes, _, _ in convolutions)
    if unit.changes and config.shortcut == "projection":
        convolutions.append((read, made, read * made, after))
        norms += 0 if config.pre_activation else 2 * made
    return _row(
        f"layer{unit.stage}.{unit.number}",
        size,
        read,
        made,
        norms + sum(weights for _, _, weights, _ in convolutions),
        sum(weights * pixels for _, _, weights, pixels in convolutions),
    )


@peer_layers.register
def _convnet(config: ConvNetConfig, sides: _Size) -> list[LayerFacts]:
    rows = []
    read, size = config.in_channels, sides
    for number, layer in enumerate(config.layers, start=1):
        convolved = tuple(layer.convolved(side) for side in size)
        size = tuple(layer.pooled(side) for side in convolved)
        row = _convolution(f"features.conv{number}", size, read, layer.channels, layer.kernel, convolved)
        rows.append(row)
        read = layer.channels
    return [*rows, _convolution(config.head, size, read, config.num_classes, 1, size)]


@peer_layers.register
def _highway(config: HighwayConfig, sides: _Size) -> list[LayerFacts]:
    rows = []
    read, size = config.in_channels, sides
    stages = zip(config.stage_layers, config.stage_channels, strict=True)
    for stage, (layers, channels) in enumerate(stages, start=1):
        if stage > 1:
            size = tuple(side // 2 for side in size)
        rows.append(_convolution(f"features.conv{stage}", size, read, channels, 3, size))
        # Two convolutions, the transform's and the gate's.
        weights = 2 * 9 * channels**2
        rows += [
            _row(
                f"features.highway{stage}_{layer}",
                size,
                channels,
                channels,
                weights + 2 * channels,
                weights * math.prod(size),
            )
            for layer in range(1, layers + 1)
        ]
        read = channels
    rows.append(_convolution("features.head", size, read, config.head_channels, 1, size))
    return [*rows, _linear(config.head, config.head_channels, config.num_classes)]


@peer_layers.register
def _fractalnet(config: FractalNetConfig, sides: _Size) -> list[LayerFacts]:
    rows = []
    read, size = config.in_channels, sides
    firsts = config.columns  # each column's first convolution reads the block's input
    others = sum(config.block_depth // period for period in config.periods()) - firsts
    for number, channels in enumerate(config.block_channels):
        weights = 9 * channels * (firsts * read + others * channels)
        pooled = tuple(side // 2 for side in size)
        norms = 2 * channels * (firsts + others)
        rows.append(
            _row(f"blocks.{number}", pooled, read, channels, weights + norms, weights * math.prod(size))
        )
        read, size = channels, pooled
    return [*rows, _linear(config.head, config.num_features, config.num_classes)]


def _convolution(name: str, size: _Size, reads: int, makes: int, kernel: int, convolved: _Size) -> LayerFacts:
    """A convolution with bias that makes maps of `convolved`, pooled to `size`."""
    weights = kernel**2 * reads * makes
    return _row(name, size, reads, makes, weights + makes, weights * math.prod(convolved))


def _linear(name: str, reads: int, classes: int) -> LayerFacts:
    return _row(name, (1, 1), reads, classes, reads * classes + classes, reads * classes)


def _row(name: str, size: _Size, reads: int, makes: int, parameters: int, multiply_adds: int) -> LayerFacts:
    return LayerFacts(
        name=name,
        size=size,
        reads=reads,
        adds=makes,
        hands_on=makes,
        parameters=parameters,
        multiply_adds=multiply_adds,
    )


def _halved(size: _Size) -> _Size:
    """Behind a stride of 2 with padding: rounded up."""
    return tuple(math.ceil(side / 2) for side in size)
