"""The heat maps of feature reuse on the page: coloured cells, colour scales, and means."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib import colormaps

from densenets.analysis.reuse.compute import BlockReuse, FeatureReuse
from densenets.analysis.reuse.figure import layer_values
from densenets.figures.numbers import significant

_CELL, _GAP = 10, 4  # of a heat map, in its own units


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A connection as a square.

    Attributes:
        x: of its left edge.
        y: of its upper edge.
        colour: as #rrggbb.
        title: what it is, with its value.
    """

    x: int
    y: int
    colour: str
    title: str


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """The heat map of one dense block.

    Attributes:
        number: of the block.
        layers: how many it has.
        reader: the transition or classifier, in the last column.
        width: of the drawing, in its own units.
        height: of the drawing, in its own units.
        label: for those who hear the page.
        cells: one a connection.
    """

    number: int
    layers: int
    reader: str
    width: int
    height: int
    label: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """A colour bar.

    Attributes:
        colours: CSS colours from 0 to the largest value.
        largest: the value at its end.
        label: what is coloured by it.
    """

    colours: str
    largest: str
    label: str


@dataclass(frozen=True, kw_only=True)
class MeansRow:
    """`BlockMeans` as texts.

    Attributes:
        block: its number.
        input: mean weight of the block's input.
        next: of the layer directly before.
        earlier: of the layers before that one.
        reader: the transition or classifier.
        thirds: mean weights of its sources, by thirds.
    """

    block: int
    input: str
    next: str
    earlier: str
    reader: str
    thirds: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeatMaps:
    """The page's section on feature reuse.

    Attributes:
        sentence: what a value is.
        blocks: one a dense block.
        scales: of the dense layers, and of what reads a whole block.
        summary: means, one row a block.
    """

    sentence: str
    blocks: tuple[HeatMap, ...]
    scales: tuple[ColourScale, ...]
    summary: tuple[MeansRow, ...]


def heat_maps(reuse: FeatureReuse) -> HeatMaps:
    """Heat maps of all blocks, with their scales and means."""
    largest = max(float(layer_values(block).max()) for block in reuse.blocks) or 1.0
    return HeatMaps(
        sentence=(
            f"The {reuse.meaning}, of dense layers by their {reuse.through}: a column is what a layer gives "
            "to each of its sources. All dense layers are on one scale; what reads a whole block, the column "
            "that stands apart, is on a scale up to its own largest."
        ),
        blocks=tuple(_heat_map(block, largest) for block in reuse.blocks),
        scales=(
            ColourScale(colours=_gradient("viridis"), largest=f"{largest:.3g}", label="dense layers"),
            ColourScale(
                colours=_gradient("cividis"), largest="its largest", label="what reads the whole block"
            ),
        ),
        summary=tuple(
            MeansRow(
                block=block.number,
                input=significant(means.input, 4),
                next=significant(means.next, 4),
                earlier=significant(means.earlier, 4),
                reader=block.targets[-1],
                thirds=tuple(significant(mean, 4) for mean in means.reader),
            )
            for block, means in zip(reuse.blocks, reuse.summary(), strict=True)
        ),
    )


def _heat_map(block: BlockReuse, largest: float) -> HeatMap:
    last = len(block.targets) - 1
    cells = []
    for target, name in enumerate(block.targets):
        weights = block.of_target(target)
        whole = max(weights) or 1.0
        for source, weight in enumerate(weights):
            share = weight / (whole if target == last else largest)
            source_name = "the block's input" if source == 0 else f"layer {block.sources[source]}"
            cells.append(
                HeatCell(
                    x=_CELL * target + (_GAP if target == last else 0),
                    y=_CELL * source,
                    colour=_hex("cividis" if target == last else "viridis", share),
                    title=f"{name if target == last else f'layer {name}'} reads {source_name}: {weight:.4g}",
                )
            )
    return HeatMap(
        number=block.number,
        layers=last,
        reader=block.targets[last],
        width=_CELL * len(block.targets) + _GAP,
        height=_CELL * len(block.sources),
        label=f"heat map of dense block {block.number}; its means stand in the table below",
        cells=tuple(cells),
    )


def _hex(colours: str, share: float) -> str:
    red, green, blue, _ = (round(255 * part) for part in colormaps[colours](share))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _gradient(colours: str) -> str:
    return ",".join(_hex(colours, place / 8) for place in range(9))
