"""Layer rows of a residual network, computed from its config. Needs no PyTorch."""

from __future__ import annotations

import math

from densenets.models.baselines.resnet_config import ResNetConfig, UnitChannels
from densenets.models.layer_rows import LayerRow, layer_row, linear_row


def resnet_rows(config: ResNetConfig, sides: tuple[int, ...]) -> list[LayerRow]:
    """The rows of a whole network for images of the given sides, in pixels."""
    large = config.stem == "imagenet"
    channels = config.stem_channels
    convolved = _halved(sides) if large else sides
    weights = (49 if large else 9) * config.in_channels * channels
    norm = 2 * channels if large or not config.pre_activation else 0
    size = _halved(convolved) if large else convolved
    rows = [
        layer_row("stem", size, config.in_channels, channels, weights + norm, weights * math.prod(convolved))
    ]
    for unit in config.units():
        read_size, size = size, tuple(math.ceil(side / unit.stride) for side in size)
        rows.append(_residual_unit(config, unit, read_size, size))
    if config.pre_activation:
        features = config.num_features
        rows.append(layer_row("last", size, features, features, 2 * features, 0))
    return [*rows, linear_row(config.head, config.num_features, config.num_classes)]


def _residual_unit(
    config: ResNetConfig, unit: UnitChannels, read_size: tuple[int, ...], size: tuple[int, ...]
) -> LayerRow:
    in_channels, out_channels, width = unit.in_channels, unit.out_channels, unit.width
    before, after = math.prod(read_size), math.prod(size)
    # Of each convolution: input channels, output channels, weights, pixels of its output.
    if config.unit == "bottleneck":
        # With pre-activation the stride is at the first 1x1, otherwise at the 3x3.
        first = after if config.pre_activation else before
        convolutions = [
            (in_channels, width, in_channels * width, first),
            (width, width, 9 * width * width, after),
            (width, out_channels, width * out_channels, after),
        ]
    else:
        convolutions = [
            (in_channels, out_channels, 9 * in_channels * out_channels, after),
            (out_channels, out_channels, 9 * out_channels * out_channels, after),
        ]
    # One batch normalisation a convolution: of its input with pre-activation, otherwise of its output.
    norms = sum(2 * (inputs if config.pre_activation else outputs) for inputs, outputs, _, _ in convolutions)
    if unit.changes_shape and config.shortcut == "projection":
        convolutions.append((in_channels, out_channels, in_channels * out_channels, after))
        norms += 0 if config.pre_activation else 2 * out_channels
    return layer_row(
        f"layer{unit.stage}.{unit.number}",
        size,
        in_channels,
        out_channels,
        norms + sum(weights for _, _, weights, _ in convolutions),
        sum(weights * pixels for _, _, weights, pixels in convolutions),
    )


def _halved(size: tuple[int, ...]) -> tuple[int, ...]:
    """Sides after a stride of 2 with padding: rounded up."""
    return tuple(math.ceil(side / 2) for side in size)
