"""Cost of training steps as a figure: bars of time, and points of memory and multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densenets.analysis.cost.compute import CostRow
from densenets.figures.fonts import literal
from densenets.figures.series_style import COLOURS
from densenets.figures.write import write_figure

_PHASES = (("forward_ms", "forward pass"), ("backward_ms", "backward pass"), ("optimizer_ms", "optimiser"))
_SIDES = (
    ("multiply_adds", "multiply-adds of a forward pass\n(millions an image)", 1e-6),
    ("memory_bytes", "peak memory (MiB)", 2**-20),
)
_HATCHES = ("", "//", "..")


def write_cost(rows: Sequence[CostRow], stem: Path) -> None:
    """Draw time, multiply-adds and memory of training steps, as `stem`.png and `stem`.svg."""
    write_figure(cost_figure(rows), stem)


def cost_figure(rows: Sequence[CostRow]) -> Figure:
    """A bar a row in each of three panels; rows that failed have none."""
    figure = Figure(figsize=(12, 1.8 + 0.5 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1))
    names = [literal(f"{row.model}\n{row.execution}, {row.parameters / 1e6:.2f} M") for row in rows]
    places = range(len(rows))
    _draw_phases(panels[0], rows)
    for axes, (quantity, label, factor) in zip(panels[1:], _SIDES, strict=True):
        axes.barh(places, [(getattr(row, quantity) or 0) * factor for row in rows], color="0.55", height=0.65)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(places, names, fontsize=8)
    panels[0].invert_yaxis()
    figure.legend(loc="outside upper center", ncols=3, fontsize=9)
    return figure


def _draw_phases(axes: Axes, rows: Sequence[CostRow]) -> None:
    starts = [0.0] * len(rows)
    for number, (phase, label) in enumerate(_PHASES):
        widths = [getattr(row, phase) or 0.0 for row in rows]
        axes.barh(
            range(len(rows)),
            widths,
            left=starts,
            height=0.65,
            color=COLOURS[number],
            hatch=_HATCHES[number],
            edgecolor="white",
            linewidth=0,
            label=label,
        )
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, row in enumerate(rows):
        text = "failed" if row.step_ms is None else f"{row.step_ms:.3g}"
        axes.annotate(
            text, (starts[place], place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_xlim(right=1.12 * max([*starts, 1e-9]))
    axes.set_xlabel(f"a training step (ms an image, batch {rows[0].batch})")
    axes.grid(axis="x", alpha=0.3)
