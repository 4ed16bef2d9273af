"""Layer rows of a network of convolutions, computed from its config. Needs no PyTorch.

Companion classifiers, which only training uses, are not among the rows.
"""

from __future__ import annotations

from densenets.models.baselines.convnet_config import ConvNetConfig
from densenets.models.layer_rows import LayerRow, convolution_row


def convnet_rows(config: ConvNetConfig, sides: tuple[int, ...]) -> list[LayerRow]:
    """The rows of a whole network for images of the given sides, in pixels."""
    rows = []
    in_channels, size = config.in_channels, sides
    for number, layer in enumerate(config.layers, start=1):
        convolved = tuple(layer.convolved(side) for side in size)
        size = tuple(layer.pooled(side) for side in convolved)
        row = convolution_row(
            f"features.conv{number}", size, in_channels, layer.channels, layer.kernel, convolved
        )
        rows.append(row)
        in_channels = layer.channels
    return [*rows, convolution_row(config.head, size, in_channels, config.num_classes, 1, size)]
