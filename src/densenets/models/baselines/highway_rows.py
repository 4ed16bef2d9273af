"""Layer rows of a Highway Network, computed from its config. Needs no PyTorch."""

from __future__ import annotations

import math

from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.layer_rows import LayerRow, convolution_row, layer_row, linear_row


def highway_rows(config: HighwayConfig, sides: tuple[int, ...]) -> list[LayerRow]:
    """The rows of a whole network for images of the given sides, in pixels."""
    rows = []
    in_channels, size = config.in_channels, sides
    stages = zip(config.stage_layers, config.stage_channels, strict=True)
    for stage, (layers, channels) in enumerate(stages, start=1):
        if stage > 1:
            size = tuple(side // 2 for side in size)
        rows.append(convolution_row(f"features.conv{stage}", size, in_channels, channels, 3, size))
        # Two convolutions, the transform's and the gate's.
        weights = 2 * 9 * channels**2
        rows += [
            layer_row(
                f"features.highway{stage}_{layer}",
                size,
                channels,
                channels,
                weights + 2 * channels,
                weights * math.prod(size),
            )
            for layer in range(1, layers + 1)
        ]
        in_channels = channels
    rows.append(convolution_row("features.head", size, in_channels, config.head_channels, 1, size))
    return [*rows, linear_row(config.head, config.head_channels, config.num_classes)]
