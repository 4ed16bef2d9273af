"""The heat map of feature reuse as a figure (paper, Fig. 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from densenets.analysis.reuse.compute import BlockReuse, FeatureReuse
from densenets.figures.fonts import literal
from densenets.figures.write import write_figure

_MOST_TICKS = 16
_PANEL = 4.2  # inches


def write_reuse(reuse: FeatureReuse, title: str, stem: Path) -> None:
    """Draw the heat map of every block, as `stem`.png and `stem`.svg."""
    write_figure(reuse_figure(reuse, title), stem)


def reuse_figure(reuse: FeatureReuse, title: str) -> Figure:
    """Heat maps, a panel a block: source layers down, target layers across.

    All dense layers are on one scale. What reads a whole block, in the last column, can have weights of
    another size: each of these columns is on a scale up to its own largest value.
    """
    blocks = reuse.blocks
    figure = Figure(figsize=(_PANEL * len(blocks) + 1.8, _PANEL + 0.7), layout="constrained")
    figure.suptitle(literal(title))
    largest = max(layer_values(block).max() for block in blocks)
    panels = figure.subplots(1, len(blocks), squeeze=False)[0]
    images = [_draw(axes, block, largest) for axes, block in zip(panels, blocks, strict=True)]
    layers, readers = images[-1]
    bar = figure.colorbar(layers, ax=list(panels), shrink=0.9, pad=0.01)
    bar.set_label(f"dense layers: {reuse.meaning}", fontsize=8)
    bar = figure.colorbar(readers, ax=list(panels), shrink=0.9, pad=0.01)
    bar.set_label("last column of each block: the same by its largest", fontsize=8)
    return figure


def layer_values(block: BlockReuse) -> np.ndarray:
    """Values of the dense layers of a block, without those of the transition or classifier, in any order."""
    return np.array([value for target in range(len(block.targets) - 1) for value in block.of_target(target)])


def _draw(axes: Axes, block: BlockReuse, largest: float) -> tuple[AxesImage, AxesImage]:
    count, last = len(block.sources), len(block.targets) - 1
    values = np.array([[np.nan if v is None else v for v in row] for row in block.values])
    reader = values[:, last:] / (values[:, last].max() or 1.0)
    layers = axes.imshow(values[:, :last], cmap="viridis", vmin=0, vmax=largest or 1.0)
    extent = (last - 0.2, last + 0.8, count - 0.5, -0.5)  # a little apart
    readers = axes.imshow(reader, cmap="cividis", vmin=0, vmax=1, extent=extent)
    axes.set_xlim(-0.5, last + 0.8)
    axes.set_title(f"dense block {block.number}", fontsize=10)
    axes.set_xlabel(f"target layer, last: {block.targets[last]}")
    axes.set_ylabel("source layer, 0: the block's input")
    step = -(-count // _MOST_TICKS)
    axes.set_yticks(range(0, count, step), [str(source) for source in range(0, count, step)], fontsize=7)
    targets = [target for target in range(last) if target == 0 or (target + 1) % step == 0]
    names = [block.targets[target] for target in targets]
    axes.set_xticks([*targets, last + 0.3], [*names, block.targets[last][0].upper()], fontsize=7)
    return layers, readers
