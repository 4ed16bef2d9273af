"""Feature reuse: how much weight every layer of a dense block gives to every source before it.

The heat map of the paper (Fig. 5, section 5), from the weights alone: no image is needed. A connection's
weights are those of the convolution that reads it: with a bottleneck the 1x1, without one the 3x3, in a
transition the 1x1, and of the last block the classifier, which reads its maps averaged over the image.

The paper takes the "average L1 norm, normalized by the number of input feature-maps", and leaves open over
what it averages; what each normalisation here divides by stands in `NORMALIZATIONS`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from densenets.analysis.reuse.reuse_config import NORMALIZATIONS, Normalization, ReuseConfig
from densenets.errors import InputError
from densenets.models.densenet import DenseLayer, DenseNet, Transition
from densenets.models.densenet_config import BlockChannels
from densenets.models.network import Network

CLASSIFIER = "classifier"
_DEFAULT = ReuseConfig()


@dataclass(frozen=True, kw_only=True)
class BlockReuse:
    """The heat map of one dense block.

    Attributes:
        number: of the block, from 1.
        sources: what its layers read: "input", then the layers by number, "1" ... "L".
        source_maps: feature maps that each source gives.
        targets: what reads them: the layers, "1" ... "L", then "transition N" or "classifier".
        values: values[s][t] of source s in target t; None where the source comes after the target.
    """

    number: int
    sources: tuple[str, ...]
    source_maps: tuple[int, ...]
    targets: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    def of_target(self, target: int) -> list[float]:
        """The values of a target, one a source, in order."""
        return [value for row in self.values if (value := row[target]) is not None]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The weight that one target gives to one source.

    Attributes:
        block: number of the dense block, from 1.
        source: "input", or the number of the layer that is read.
        source_maps: feature maps that the source gives.
        target: number of the layer that reads, or "transition N" or "classifier".
        value: as `FeatureReuse.meaning` says.
    """

    block: int
    source: str
    source_maps: int
    target: str
    value: float


@dataclass(frozen=True, kw_only=True)
class BlockMeans:
    """Means over the values of a block's heat map; None where there is no such value.

    Attributes:
        block: its number, from 1.
        input: of the block's input in its layers.
        other: of the layers in the layers behind them.
        next: of the layer directly before.
        earlier: of the layers before that one.
        reader: of the transition or classifier, by thirds of its sources from the first to the last.
    """

    block: int
    input: float | None
    other: float | None
    next: float | None
    earlier: float | None
    reader: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureReuse:
    """The heat maps of all blocks.

    Attributes:
        normalization: what a value is, one of `NORMALIZATIONS`.
        with_scale: whether each weight was multiplied by the scale (gamma) of the batch normalisation before
            it, so that it acts on maps of deviation 1.
        through: the layer whose weights the dense layers' values are of.
        blocks: in order.
    """

    normalization: Normalization
    with_scale: bool
    through: str
    blocks: tuple[BlockReuse, ...]

    @property
    def meaning(self) -> str:
        """What a value is, for an axis."""
        return NORMALIZATIONS[self.normalization] + (", times batch norm's |gamma|" * self.with_scale)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        summary = [{**dataclasses.asdict(means), "reader": list(means.reader)} for means in self.summary()]
        return {**dataclasses.asdict(self), "meaning": self.meaning, "summary": summary}

    def summary(self) -> tuple[BlockMeans, ...]:
        """What the paper says of its figure, in numbers, block by block."""
        return tuple(_block_means(block) for block in self.blocks)

    def rows(self) -> list[Connection]:
        """All connections, block by block and source by source."""
        return [
            Connection(block=block.number, source=source, source_maps=maps, target=target, value=value)
            for block in self.blocks
            for source, maps, values in zip(block.sources, block.source_maps, block.values, strict=True)
            for target, value in zip(block.targets, values, strict=True)
            if value is not None
        ]


def feature_reuse(model: Network, config: ReuseConfig = _DEFAULT) -> FeatureReuse:
    """The heat maps of a trained DenseNet, in float64.

    Args:
        model: whose weights are read.
        config: what a value is. With the scale (gamma) of the batch normalisation that a map passes first,
            maps of large gamma with small weights count as much as the reverse.

    Raises:
        InputError: the network is no DenseNet, its classifier is not linear, or a weight is not finite.
    """
    if not isinstance(model, DenseNet):
        raise InputError(
            f"the network is a {model.config.title}; feature reuse is of dense blocks, which DenseNets have"
        )
    if not isinstance(model.classifier, nn.Linear):
        raise InputError(
            f"the classifier is a {type(model.classifier).__name__}; feature reuse needs a linear layer"
        )
    blocks = tuple(_block_reuse(model, block, config) for block in model.config.blocks())
    return FeatureReuse(
        normalization=config.normalization,
        with_scale=config.with_scale,
        through="1x1 of the bottleneck" if model.config.bottleneck else "3x3",
        blocks=blocks,
    )


def _block_means(block: BlockReuse) -> BlockMeans:
    layers = len(block.targets) - 1
    within = [(s, t, block.values[s][t]) for t in range(layers) for s in range(t + 1)]
    reader = block.of_target(layers)
    thirds = [reader[len(reader) * i // 3 : len(reader) * (i + 1) // 3] for i in range(3)]
    return BlockMeans(
        block=block.number,
        input=_mean([value for s, _, value in within if s == 0]),
        other=_mean([value for s, _, value in within if s > 0]),
        # Source s > 0 is the layer of target s - 1: the one directly before target s.
        next=_mean([value for s, t, value in within if s == t > 0]),
        earlier=_mean([value for s, t, value in within if 0 < s < t]),
        reader=tuple(_mean(third) for third in thirds),
    )


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


@torch.no_grad()
def _block_reuse(model: DenseNet, block: BlockChannels, config: ReuseConfig) -> BlockReuse:
    maps = (block.in_channels, *[block.growth_rate] * block.layers)
    numbers = [str(number) for number in range(1, block.layers + 1)]
    columns = [
        _normalized(_sums(weight * scale if config.with_scale else weight, maps), config.normalization)
        for scale, weight in _readers(model, block)
    ]
    if not all(math.isfinite(value) for column in columns for value in column):
        raise InputError(f"weights of dense block {block.number} are not finite; the network is broken")
    values = [
        tuple(column[source] if source < len(column) else None for column in columns)
        for source in range(len(maps))
    ]
    is_last = block.number == len(model.config.block_layers)
    return BlockReuse(
        number=block.number,
        sources=("input", *numbers),
        source_maps=maps,
        targets=(*numbers, CLASSIFIER if is_last else f"transition {block.number}"),
        values=tuple(values),
    )


def _readers(model: DenseNet, block: BlockChannels) -> list[tuple[Tensor, Tensor]]:
    """Scales and weights of every layer of a block, and of the transition or classifier behind it.

    Returns:
        for each, the scales (gamma) of the batch normalisation, in_channels; and the weights of the layer
        behind it, out_channels x kernel pixels x in_channels.
    """
    features = model.features
    readers: list[tuple[nn.Module, Tensor]] = []
    for number in range(1, block.layers + 1):
        layer = features.get_submodule(f"denseblock{block.number}.denselayer{number}")
        assert isinstance(layer, DenseLayer)
        readers.append((layer.norm1, layer.conv1.weight))
    if block.number < len(model.config.block_layers):
        transition = features.get_submodule(f"transition{block.number}")
        assert isinstance(transition, Transition)
        readers.append((transition.norm, transition.conv.weight))
    else:
        assert isinstance(model.classifier, nn.Linear)
        readers.append((features.get_submodule("norm5"), model.classifier.weight))
    return [
        (cast(Tensor, norm.weight), weight.double().reshape(*weight.shape[:2], -1).movedim(1, -1))
        for norm, weight in readers
    ]


@dataclass(frozen=True)
class _Sums:
    """Sums over the weights that a target gives to each of its sources.

    Attributes:
        absolute: sums of absolute weights.
        weights: numbers of weights.
        maps: numbers of feature maps.
    """

    absolute: list[float]
    weights: list[int]
    maps: list[int]


def _sums(weight: Tensor, maps: tuple[int, ...]) -> _Sums:
    in_channels = weight.shape[-1]
    sources: list[int] = []
    while sum(sources) < in_channels:
        sources.append(maps[len(sources)])
    by_map = weight.abs().reshape(-1, in_channels).sum(dim=0)
    per_map = weight.numel() // in_channels
    return _Sums(
        absolute=[float(part.sum()) for part in by_map.split(sources)],
        weights=[per_map * count for count in sources],
        maps=sources,
    )


def _normalized(sums: _Sums, normalization: Normalization) -> list[float]:
    if normalization == "l1":
        return [total / count for total, count in zip(sums.absolute, sums.maps, strict=True)]
    if normalization == "share":
        # A target whose weights are all zero gives nothing to anybody.
        whole = math.fsum(sums.absolute) or 1.0
        return [total / whole for total in sums.absolute]
    means = [total / count for total, count in zip(sums.absolute, sums.weights, strict=True)]
    if normalization == "largest":
        largest = max(means) or 1.0
        return [mean / largest for mean in means]
    return means
