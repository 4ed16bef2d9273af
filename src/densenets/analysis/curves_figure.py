"""The training curves of a run as a figure: top-1 error and loss by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from densenets.analysis.learning_curves import watched_value
from densenets.figures.fonts import literal
from densenets.figures.series_style import COLOURS
from densenets.figures.write import write_figure

_BLUE, _ORANGE, *_ = COLOURS  # far apart in lightness as well as in hue


def write_curves(metrics: Sequence[dict[str, Any]], title: str, watched: str, stem: Path) -> None:
    """Draw a run's top-1 error and loss by epoch, as `stem`.png and `stem`.svg.

    Args:
        metrics: lines of metrics.jsonl.
        title: of the figure.
        watched: what the images are that were watched, "validation" or "test".
        stem: path without ending.
    """
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(literal(title))
    panels = (("top1_error", "top-1 error (%)"), ("loss", "loss (nats)"))
    for number, (quantity, label) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, 2, number)
        training = [line[f"train_{quantity}"] for line in epochs]
        for values, name, colour, line_style in (
            (training, "training", _ORANGE, "--"),
            ([watched_value(line, quantity) for line in epochs], watched, _BLUE, "-"),
        ):
            axes.plot(
                [line["epoch"] for line in epochs],
                values,
                line_style,
                color=colour,
                label=name,
                marker="o" if len(epochs) <= 40 else None,
                markersize=3,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    write_figure(figure, stem)
