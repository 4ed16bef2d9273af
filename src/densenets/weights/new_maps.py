"""Whether a port's dense layers put their new maps before or behind the older ones, from running statistics.

Weights of both have the same shapes, and to take one for the other gives a wrong network. But all consumers
of a channel normalise the same values, so its running mean and variance are nearly the same in each of their
norms: those of a layer stand again, in one piece, at the begin or at the end of the next one's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from densenets.weights.formats.file_modules import FileModule, NewMaps
from densenets.weights.structure import DenseNetLayers

Unknown = Literal["fresh", "contradictory"]

_CLEARLY = 0.25  # the right order's disagreement as a share of the wrong one's, at most
_SAME = 1e-6  # disagreement, in standard deviations, that is a rounding


def new_maps_by_statistics(layers: DenseNetLayers) -> NewMaps | Unknown:
    """Where new maps stand; "fresh" where statistics tell nothing, "contradictory" where they fit neither."""
    last = first = 0.0
    for older, newer in _consecutive_norms(layers):
        count = older.channels
        last += _disagreement(older, newer, slice(0, count))
        first += _disagreement(older, newer, slice(newer.channels - count, None))
    if max(last, first) < _SAME:
        return "fresh"
    if math.isnan(last + first) or min(last, first) > _CLEARLY * max(last, first):
        return "contradictory"
    return "last" if last < first else "first"


def _consecutive_norms(layers: DenseNetLayers) -> Iterator[tuple[FileModule, FileModule]]:
    """Each norm that reads a block's maps, and the next one, which reads all of these and more."""
    behind = [*(unit.norm for unit in layers.transitions), layers.last_norm]
    for block, last in zip(layers.blocks, behind, strict=True):
        norms = [*(units[0].norm for units in block), last]
        for older, newer in itertools.pairwise(norms):
            if older is not None and newer is not None:
                yield older, newer


def _disagreement(older: FileModule, newer: FileModule, part: slice) -> float:
    """How much the statistics of two norms differ in the channels that they share, 0 for not at all."""
    mean, variance = _statistics(older)
    other_mean, other_variance = (values[part] for values in _statistics(newer))
    scale = (variance + other_variance).clamp(min=1e-12).sqrt()
    difference = ((mean - other_mean) / scale).abs() + (variance - other_variance).abs() / scale.square()
    return float(difference.clamp(max=1).mean())


def _statistics(norm: FileModule) -> tuple[Tensor, Tensor]:
    return norm.tensors["running_mean"].double(), norm.tensors["running_var"].double()


def to_new_maps_last(in_channels: int, growth_rate: int, layers: int) -> Tensor:
    """The order of a block's channels with new maps first, by which they come to stand last.

    Args:
        in_channels: C0, of the block's input.
        growth_rate: k, channels of each layer.
        layers: how many layers' maps there are.

    Returns:
        the place in the file of each channel, so that `tensor[order]` is in the order of this program.
    """
    newest_first = [range(number * growth_rate, (number + 1) * growth_rate) for number in range(layers)]
    places: Sequence[range] = [
        range(layers * growth_rate, layers * growth_rate + in_channels),
        *newest_first[::-1],
    ]
    return torch.tensor([place for part in places for place in part])
