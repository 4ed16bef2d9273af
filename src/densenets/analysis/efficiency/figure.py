"""A figure of networks that are compared: error against what they cost, and error by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from densenets.analysis.learning_curves import reported_split
from densenets.figures.fonts import literal
from densenets.figures.series_style import SeriesStyle, series_style
from densenets.figures.write import write_figure

Axis = tuple[str, str, float]  # a quantity of the rows, the axis' label, and the factor to its unit

STEP_AXES: tuple[Axis, ...] = (
    ("parameters", "parameters (millions)", 1e-6),
    ("multiply_adds", "multiply-adds of a test-time\nforward pass (millions)", 1e-6),
    ("forward_ms", "forward pass in training\n(ms an image, measured)", 1.0),
    ("backward_ms", "backward pass\n(ms an image, measured)", 1.0),
    ("memory_bytes", "peak training memory\n(MiB, measured)", 2**-20),
)
RUN_AXES: tuple[Axis, ...] = (
    *STEP_AXES[:2],
    ("training_seconds", "training, images watched\n(minutes, measured)", 1 / 60),
    ("step_ms", "a training step\n(ms an image, measured)", 1.0),
    STEP_AXES[-1],
)


def write_comparison(
    rows: Sequence[dict[str, Any]],
    title: str,
    stem: Path,
    quantities: Sequence[Axis] = STEP_AXES,
    *,
    watched: str,
    with_paper: bool = False,
) -> None:
    """Draw the error against what networks cost, and by epoch, as `stem`.png and `stem`.svg.

    Args:
        rows: of `result_rows`; those without an error are left out.
        title: of the figure.
        stem: path without ending.
        quantities: what the error is drawn against, at most five.
        watched: the images whose error is shown by epoch.
        with_paper: draw the paper's errors too, as hollow marks.
    """
    names = list(dict.fromkeys(row["series"] for row in rows))
    looks = {name: series_style(number) for number, name in enumerate(names)}
    curves = [row for row in rows if row["curves"]]
    figure = Figure(figsize=(13, 8), layout="constrained")
    figure.suptitle(literal(title), fontsize=11)
    panels = figure.subplots(2, 3).flatten()
    for axes, (quantity, label, factor) in zip(panels, quantities, strict=False):
        for name in names:
            series = [row for row in rows if row["series"] == name]
            _draw_series(axes, series, quantity, factor, looks[name], with_paper=with_paper)
        axes.set_xlabel(label)
        axes.set_ylabel(f"{reported_split(row.get('split', 'test') for row in rows)} error (%)")
        if axes.has_data():
            _scale(axes)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    _draw_curves(panels[-1], curves, looks, watched)
    handles = [
        panels[0].plot([], [], marker=marker, color=colour, label=literal(name))[0]
        for name, (colour, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    write_figure(figure, stem)


def _scale(axes: Axes) -> None:
    """A logarithmic axis whose numbers are plain, also within a decade."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 2 * low:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 5 * low else range(1, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def _draw_series(
    axes: Axes,
    rows: Sequence[dict[str, Any]],
    quantity: str,
    factor: float,
    seen_as: SeriesStyle,
    *,
    with_paper: bool,
) -> None:
    colour, marker = seen_as
    ours = sorted(
        (row[quantity] * factor, row["mean_error"], row["deviation"] or 0.0)
        for row in rows
        if row["mean_error"] is not None and row[quantity] is not None
    )
    if ours:
        x, errors, deviations = zip(*ours, strict=True)
        axes.errorbar(x, errors, yerr=deviations, color=colour, marker=marker, capsize=3, linewidth=1.2)
    paper = sorted(
        (row[quantity] * factor, row["paper_error"])
        for row in rows
        if with_paper and row["paper_error"] is not None and row[quantity] is not None
    )
    if paper:
        x, errors = zip(*paper, strict=True)
        axes.plot(x, errors, ":", color=colour, marker=marker, markerfacecolor="none", linewidth=1)


def _draw_curves(
    axes: Axes, rows: Sequence[dict[str, Any]], looks: dict[str, SeriesStyle], watched: str
) -> None:
    """Errors by epoch, dashed in training; means over the seeds."""
    if not rows:
        axes.set_axis_off()
        return
    for row in rows:
        colour, marker = looks[row["series"]]
        epochs = [point["epoch"] for point in row["curves"]]
        few = marker if len(epochs) <= 40 else None
        axes.plot(epochs, [point["train_error"] for point in row["curves"]], "--", color=colour, linewidth=1)
        errors = [point["watched_error"] for point in row["curves"]]
        axes.plot(epochs, errors, color=colour, marker=few, markersize=4)
    axes.set_xlabel(f"epoch\n(dashed: training images; solid: {watched})")
    axes.set_ylabel("error (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
