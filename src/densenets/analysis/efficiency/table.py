"""Finished runs side by side as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from densenets.analysis.efficiency.compute import EfficiencyRow
from densenets.figures.numbers import bytes_text, duration, milliseconds, short
from densenets.terminal import console, plain, print_table


def print_efficiency(rows: Sequence[EfficiencyRow]) -> None:
    """Print finished runs, the best first."""
    table = Table(box=None, title="finished runs")
    for column in ("network", "recipe"):
        table.add_column(column)
    columns = ("error (%)", "runs", "parameters", "multiply-adds", "training", "step (ms an image)", "memory")
    for column in columns:
        table.add_column(column, justify="right")
    for row in sorted(rows, key=lambda row: row.mean_error or 0.0):
        table.add_row(
            plain(row.network),
            plain(row.recipe),
            row.error_text,
            f"{len(row.folders)}",
            f"{row.parameters:,}",
            short(row.multiply_adds),
            duration(row.training_seconds),
            milliseconds(row.step.step_ms),
            bytes_text(row.step.memory_bytes),
        )
    out = console()
    print_table(out, table)
    for row in rows:
        if row.step.failed:
            out.print(f"{row.recipe}: no step could be measured: {row.step.failed}", markup=False)
