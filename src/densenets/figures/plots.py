"""Plots: plain data in, a PNG and an SVG out. Colours are told apart by the colour-blind too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from densenets.analysis.learning_curves import watched_value
from densenets.figures.fonts import fonts_for, literal, shortened
from densenets.figures.series_style import COLOURS
from densenets.files import write_bytes
from densenets.names import printable

_BLUE, _ORANGE, *_ = COLOURS  # far apart in lightness as well as in hue
_MOST_NAMED_CLASSES = 30  # with more the names cannot be read
_LONGEST_NAME = 32  # characters


def write_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], stem: Path) -> None:
    """Draw a confusion matrix, rows in percent of their class, as `stem`.png and `stem`.svg."""
    shares = [[100 * n / max(1, sum(row)) for n in row] for row in confusion]
    count = len(classes)
    named = count <= _MOST_NAMED_CLASSES
    names = [literal(shortened(printable(name), _LONGEST_NAME)) for name in classes] if named else []
    # The names take from the matrix: of few classes with long names it would have no room.
    side = min(12.0, 3 + 0.5 * count + 0.06 * max(map(len, names), default=0)) if named else 9.0
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=100)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    if named:
        axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if confusion[i][j]:
                    colour = "black" if share > 60 else "white"
                    axes.text(
                        j,
                        i,
                        f"{share:.0f}" if share >= 1 else "<1",
                        ha="center",
                        va="center",
                        color=colour,
                        fontsize=8,
                    )
    figure.colorbar(image, label="percent of the true class")
    write_figure(figure, stem)


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


def write_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as `stem`.png and `stem`.svg, atomically; the same data gives the same bytes."""
    for suffix in ("png", "svg"):
        content = io.BytesIO()
        # Without a date and with a fixed salt the same data gives the same file.
        with fonts_for(figure), mpl.rc_context({"svg.hashsalt": "densenets", "svg.fonttype": "none"}):
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(content, format=suffix, dpi=150, metadata=metadata)
        write_bytes(stem.parent / f"{stem.name}.{suffix}", content.getvalue())
