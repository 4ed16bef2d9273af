"""Learning curves of a run as a figure: top-1 error and loss by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from densenets.analysis.learning_curves import MOST_MARKED_EPOCHS, Epoch, error_curve, loss_curve
from densenets.figures.fonts import literal
from densenets.figures.series_style import COLOURS
from densenets.figures.write import write_figure

_BLUE, _ORANGE, *_ = COLOURS  # far apart in lightness as well as in hue


def write_curves(epochs: Sequence[Epoch], title: str, split: str, stem: Path) -> None:
    """Draw a run's top-1 error and loss by epoch, as `stem`.png and `stem`.svg.

    Args:
        epochs: of the run.
        title: of the figure.
        split: the images that were evaluated, "validation" or "test".
        stem: path without ending.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(literal(title))
    for number, curve in enumerate((error_curve(epochs), loss_curve(epochs)), start=1):
        axes = figure.add_subplot(1, 2, number)
        for values, name, colour, line_style in (
            (curve.training, "training", _ORANGE, "--"),
            (curve.evaluation, split, _BLUE, "-"),
        ):
            axes.plot(
                list(values),
                np.array(list(values.values()), dtype=float),  # None becomes NaN, and is not drawn
                line_style,
                color=colour,
                label=name,
                marker="o" if len(epochs) <= MOST_MARKED_EPOCHS else None,
                markersize=3,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(curve.label)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    write_figure(figure, stem)
