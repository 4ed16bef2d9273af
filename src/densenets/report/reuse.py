"""The heat map of feature reuse as a figure (paper, Fig. 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, FuncFormatter

from densenets.analysis.reuse import BlockReuse, FeatureReuse
from densenets.report.plots import literal, write_figure

_MOST_TICKS = 16
_PANEL = 4.2  # inches


def write_reuse(reuse: FeatureReuse, title: str, stem: Path) -> None:
    """Draw a triangle a block, as `stem`.png and `stem`.svg."""
    write_figure(reuse_figure(reuse, title), stem)


def reuse_figure(reuse: FeatureReuse, title: str) -> Figure:
    """A panel a block, all on one scale: source layers down, target layers across."""
    blocks = reuse.blocks
    figure = Figure(figsize=(_PANEL * len(blocks) + 1.2, _PANEL + 0.9), layout="constrained")
    figure.suptitle(literal(title))
    largest = max(value for block in blocks for row in block.values for value in row if value is not None)
    panels = figure.subplots(1, len(blocks), squeeze=False)[0]
    images = [_draw(axes, block, largest) for axes, block in zip(panels, blocks, strict=True)]
    bar = figure.colorbar(images[-1], ax=list(panels), shrink=0.85)
    bar.set_label(reuse.meaning, fontsize=8)
    return figure


def _draw(axes: Axes, block: BlockReuse, largest: float) -> AxesImage:
    values = np.array([[np.nan if v is None else v for v in row] for row in block.values])
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=largest or 1.0, interpolation="nearest")
    axes.set_title(f"dense block {block.number}", fontsize=10)
    axes.set_xlabel(f"target layer, last: {block.targets[-1]}")
    axes.set_ylabel("source layer, first: the block's input")
    _number(axes, block)
    # What reads the whole block stands apart from its layers.
    axes.axvline(len(block.targets) - 1.5, color="0.4", linewidth=0.8)
    return image


def _number(axes: Axes, block: BlockReuse) -> None:
    step = -(-len(block.targets) // _MOST_TICKS)
    for axis, first in ((axes.xaxis, 1), (axes.yaxis, 0)):
        count = len(block.targets) if first else len(block.sources)
        ticks = [place for place in range(count) if (place + first) % step == 0 or place + first == 1]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda place, _, first=first: f"{int(place) + first}"))
        axis.set_tick_params(labelsize=7)
