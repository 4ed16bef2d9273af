"""A confusion matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from densenets.figures.fonts import literal, shortened
from densenets.figures.write import write_figure
from densenets.names import printable

MOST_NAMED_CLASSES = 30  # with more the names cannot be read
_LONGEST_NAME = 32  # characters


def write_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], stem: Path) -> None:
    """Draw a confusion matrix, rows in percent of their class, as `stem`.png and `stem`.svg."""
    shares = [[100 * n / max(1, sum(row)) for n in row] for row in confusion]
    count = len(classes)
    named = count <= MOST_NAMED_CLASSES
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
