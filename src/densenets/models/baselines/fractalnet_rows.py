"""Layer rows of a FractalNet, computed from its config. Needs no PyTorch."""

from __future__ import annotations

import math

from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.layer_rows import LayerRow, layer_row, linear_row


def fractalnet_rows(config: FractalNetConfig, sides: tuple[int, ...]) -> list[LayerRow]:
    """The rows of a whole network for images of the given sides, in pixels."""
    rows = []
    in_channels, size = config.in_channels, sides
    firsts = config.columns  # each column's first convolution reads the block's input
    others = sum(config.block_depth // period for period in config.periods()) - firsts
    for number, channels in enumerate(config.block_channels):
        weights = 9 * channels * (firsts * in_channels + others * channels)
        pooled = tuple(side // 2 for side in size)
        norms = 2 * channels * (firsts + others)
        rows.append(
            layer_row(
                f"blocks.{number}", pooled, in_channels, channels, weights + norms, weights * math.prod(size)
            )
        )
        in_channels, size = channels, pooled
    return [*rows, linear_row(config.head, config.num_features, config.num_classes)]
