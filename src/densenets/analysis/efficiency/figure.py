"""A figure of networks that are compared: error against what they cost, and error by epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from densenets.analysis.efficiency.compared_network import ComparedNetwork
from densenets.analysis.learning_curves import MOST_MARKED_EPOCHS, reported_split
from densenets.figures.fonts import literal
from densenets.figures.series_style import SeriesStyle, series_style
from densenets.figures.write import write_figure


@dataclass(frozen=True)
class CostAxis:
    """An axis of the figure: a cost of a network or of its training.

    Attributes:
        label: of the axis, with the unit.
        cost: of a network, in the unit; None where it was not measured.
    """

    label: str
    cost: Callable[[ComparedNetwork], float | None]


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


_PARAMETERS = CostAxis("parameters (millions)", lambda row: row.parameters * 1e-6)
_MULTIPLY_ADDS = CostAxis(
    "multiply-adds of a test-time\nforward pass (millions)", lambda row: row.multiply_adds * 1e-6
)
_MEMORY = CostAxis(
    "peak training memory\n(MiB, measured)", lambda row: _scaled(row.step.memory_bytes, 2**-20)
)
STEP_AXES = (
    _PARAMETERS,
    _MULTIPLY_ADDS,
    CostAxis("forward pass in training\n(ms an image, measured)", lambda row: row.step.forward_ms),
    CostAxis("backward pass\n(ms an image, measured)", lambda row: row.step.backward_ms),
    _MEMORY,
)
RUN_AXES = (
    _PARAMETERS,
    _MULTIPLY_ADDS,
    CostAxis(
        "training with its evaluations\n(minutes, measured)",
        lambda row: _scaled(row.training_seconds, 1 / 60),
    ),
    CostAxis("a training step\n(ms an image, measured)", lambda row: row.step.step_ms),
    _MEMORY,
)


def write_comparison(
    rows: Sequence[ComparedNetwork],
    title: str,
    stem: Path,
    cost_axes: Sequence[CostAxis] = STEP_AXES,
    *,
    evaluated_on: str,
    with_paper: bool = False,
) -> None:
    """Draw the error against what networks cost, and by epoch, as `stem`.png and `stem`.svg.

    Args:
        rows: the networks; those without an error are left out.
        title: of the figure.
        stem: path without ending.
        cost_axes: the costs that the error is drawn against, at most five.
        evaluated_on: the images beside the training images in the errors by epoch.
        with_paper: draw the paper's errors too, as hollow marks.
    """
    names = list(dict.fromkeys(row.series for row in rows))
    styles = {name: series_style(number) for number, name in enumerate(names)}
    curves = [row for row in rows if row.curves]
    figure = Figure(figsize=(13, 8), layout="constrained")
    figure.suptitle(literal(title), fontsize=11)
    panels = figure.subplots(2, 3).flatten()
    for axes, cost_axis in zip(panels, cost_axes, strict=False):
        for name in names:
            series = [row for row in rows if row.series == name]
            _draw_series(axes, series, cost_axis, styles[name], with_paper=with_paper)
        axes.set_xlabel(cost_axis.label)
        axes.set_ylabel(f"{reported_split(row.split for row in rows)} error (%)")
        if axes.has_data():
            _scale(axes)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    _draw_curves(panels[-1], curves, styles, evaluated_on)
    handles = [
        panels[0].plot([], [], marker=marker, color=colour, label=literal(name))[0]
        for name, (colour, marker) in styles.items()
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
    rows: Sequence[ComparedNetwork],
    cost_axis: CostAxis,
    style: SeriesStyle,
    *,
    with_paper: bool,
) -> None:
    costs = [(row, cost) for row in rows if (cost := cost_axis.cost(row)) is not None]
    ours = sorted(
        (cost, row.mean_error, row.deviation or 0.0) for row, cost in costs if row.mean_error is not None
    )
    if ours:
        x, errors, deviations = zip(*ours, strict=True)
        axes.errorbar(
            x, errors, yerr=deviations, color=style.colour, marker=style.marker, capsize=3, linewidth=1.2
        )
    paper = sorted(
        (cost, row.paper_error) for row, cost in costs if with_paper and row.paper_error is not None
    )
    if paper:
        x, errors = zip(*paper, strict=True)
        axes.plot(
            x, errors, ":", color=style.colour, marker=style.marker, markerfacecolor="none", linewidth=1
        )


def _draw_curves(
    axes: Axes, rows: Sequence[ComparedNetwork], styles: dict[str, SeriesStyle], evaluated_on: str
) -> None:
    """Errors by epoch, dashed in training; means over the seeds."""
    if not rows:
        axes.set_axis_off()
        return
    for row in rows:
        colour, marker = styles[row.series]
        epochs = [point.epoch for point in row.curves]
        axes.plot(epochs, [point.train_error for point in row.curves], "--", color=colour, linewidth=1)
        axes.plot(
            epochs,
            [point.evaluation_error for point in row.curves],
            color=colour,
            marker=marker if len(epochs) <= MOST_MARKED_EPOCHS else None,
            markersize=4,
        )
    axes.set_xlabel(f"epoch\n(dashed: training images; solid: {evaluated_on})")
    axes.set_ylabel("error (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
