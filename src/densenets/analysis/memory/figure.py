"""Training memory against depth and batch as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from densenets.analysis.memory.compute import BatchMemory, ImageMemory, MemoryGrowth
from densenets.figures.fonts import literal
from densenets.figures.series_style import SeriesStyle, series_style
from densenets.figures.write import write_figure
from densenets.ops.execution import Execution

_MIB = 2**20


def write_memory(growth: MemoryGrowth, stem: Path) -> None:
    """Draw peak memory against dense layers and batch, as `stem`.png and `stem`.svg."""
    write_figure(memory_figure(growth), stem)


def memory_figure(growth: MemoryGrowth) -> Figure:
    """Two panels: points are measured, dotted lines predicted."""
    executions = [row.execution for row in growth.growth]
    styles = {execution: series_style(number) for number, execution in enumerate(executions)}
    sides = "x".join(str(side) for side in growth.sides)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle(literal(f"training memory of {growth.model}, images of {sides}"), fontsize=11)
    by_depth, by_batch = figure.subplots(1, 2)
    _draw(by_depth, growth.by_depth, ("layers", "image_bytes", "predicted_image_bytes"), styles)
    by_depth.set_xlabel("dense layers")
    by_depth.set_ylabel("memory of an image more (MiB)")
    _draw(by_batch, growth.by_batch, ("batch", "measured_bytes", "predicted_bytes"), styles)
    by_batch.set_xlabel(f"batch (images of a step, {growth.by_batch[0].layers} dense layers)")
    by_batch.set_ylabel("peak memory (MiB)")
    by_depth.set_ylim(bottom=0)
    by_depth.set_xlim(left=0)
    by_depth.xaxis.set_major_locator(MaxNLocator(integer=True))
    if growth.memory:
        _draw_limit(by_batch, growth, styles)
    _plain_logarithms(by_batch)
    for axes in (by_depth, by_batch):
        axes.grid(alpha=0.3)
    handles = [
        Line2D([], [], color=colour, marker=marker, label=f"{execution}{_exponent(growth, execution)}")
        for execution, (colour, marker) in styles.items()
    ]
    handles.append(Line2D([], [], color="0.3", linestyle=":", label="predicted by summary"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw(
    axes: Axes,
    rows: Sequence[BatchMemory | ImageMemory],
    names: tuple[str, str, str],
    styles: dict[Execution, SeriesStyle],
) -> None:
    """A line an execution over the first quantity: the second measured, the third predicted."""
    x, measured, predicted = names
    for execution, (colour, marker) in styles.items():
        mine = [row for row in rows if row.execution == execution]
        axes.plot(*_points(mine, x, measured), color=colour, marker=marker, markersize=5, linewidth=1.4)
        axes.plot(*_points(mine, x, predicted), ":", color=colour, linewidth=1.2)


def _points(rows: Sequence[BatchMemory | ImageMemory], x: str, y: str) -> tuple[list[float], list[float]]:
    known = [row for row in rows if getattr(row, y) is not None]
    return [getattr(row, x) for row in known], [getattr(row, y) / _MIB for row in known]


def _draw_limit(axes: Axes, growth: MemoryGrowth, styles: dict[Execution, SeriesStyle]) -> None:
    """The memory that was asked for, and the largest batch of each execution on that line."""
    limit = growth.memory / _MIB
    axes.axhline(limit, color="0.3", linewidth=1)
    for row in growth.largest:
        if row.batch:
            colour, marker = styles[row.execution]
            filled = colour if row.known_by == "measured" else "none"
            axes.plot(row.batch, limit, marker=marker, color=colour, markerfacecolor=filled, markersize=8)
            axes.annotate(f"{row.batch}", (row.batch, limit), (0, 6), textcoords="offset points", fontsize=8)


def _plain_logarithms(axes: Axes) -> None:
    """Logarithmic axes with plain numbers."""
    axes.margins(0.08)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _exponent(growth: MemoryGrowth, execution: Execution) -> str:
    row = next(row for row in growth.growth if row.execution == execution)
    return "" if row.exponent is None else f", grows as layers^{row.exponent:.2f}"
