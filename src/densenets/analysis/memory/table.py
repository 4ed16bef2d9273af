"""Training memory against depth and batch as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from densenets.analysis.memory.compute import Growth, MemoryGrowth
from densenets.figures.numbers import bytes_text
from densenets.terminal import console


def print_memory(growth: MemoryGrowth) -> None:
    """Print memory against depth and batch, and what it grows with."""
    out = console()
    out.print(_by_depth(growth))
    out.print(_by_batch(growth))
    for line in growth.failures:
        out.print(line, markup=False)
    for row in growth.largest:
        batch = "-" if row.batch is None else row.batch
        out.print(
            f"{row.execution}: the largest batch in {bytes_text(growth.memory)} is {batch} "
            f"({row.known_by}, {bytes_text(row.bytes)})"
        )
    out.print(
        "measured: in use at the peak of a training step (weights, gradients, momentum, activations, "
        "workspace); predicted: activations that summary counts, with weights, gradients and momentum",
        style="dim",
    )


def _by_depth(growth: MemoryGrowth) -> Table:
    table = Table(box=None, title=f"{growth.model}: training memory of one image more, measured (predicted)")
    table.add_column("depth", justify="right")
    table.add_column("dense layers", justify="right")
    for row in growth.growth:
        table.add_column(row.execution, justify="right")
    cells = {
        (
            row.execution,
            row.layers,
        ): f"{bytes_text(row.image_bytes)} ({bytes_text(row.predicted_image_bytes)})"
        for row in growth.by_depth
    }
    for depth, layers in dict.fromkeys((row.depth, row.layers) for row in growth.by_depth):
        table.add_row(f"{depth}", f"{layers}", *(cells[row.execution, layers] for row in growth.growth))
    table.add_section()
    table.add_row("", "grows as", *(f"layers^{_exponent(row)}" for row in growth.growth))
    return table


def _by_batch(growth: MemoryGrowth) -> Table:
    table = Table(box=None, title="peak training memory, measured (predicted)")
    table.add_column("batch", justify="right")
    for row in growth.growth:
        table.add_column(row.execution, justify="right")
    cells = {
        (row.execution, row.batch): f"{bytes_text(row.measured_bytes)} ({bytes_text(row.predicted_bytes)})"
        for row in growth.by_batch
    }
    for batch in dict.fromkeys(row.batch for row in growth.by_batch):
        table.add_row(f"{batch}", *(cells[row.execution, batch] for row in growth.growth))
    return table


def _exponent(row: Growth) -> str:
    return "-" if row.exponent is None else f"{row.exponent:.3g}"
