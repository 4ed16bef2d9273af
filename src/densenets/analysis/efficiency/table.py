"""Finished runs side by side as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.numbers import bytes_text, duration, milliseconds, short
from densenets.terminal import console, plain


def print_efficiency(data: dict[str, Any]) -> None:
    """Print finished runs, the best first."""
    table = Table(box=None, title="finished runs")
    for column in ("network", "recipe"):
        table.add_column(column)
    columns = ("error (%)", "runs", "parameters", "multiply-adds", "training", "step (ms an image)", "memory")
    for column in columns:
        table.add_column(column, justify="right")
    for row in sorted(data["rows"], key=lambda row: row["mean_error"]):
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
        table.add_row(
            plain(row["network"]),
            plain(row["recipe"]),
            f"{row['mean_error']:.2f}{spread}",
            f"{len(row['runs'])}",
            f"{row['parameters']:,}",
            short(row["multiply_adds"]),
            duration(row["training_seconds"]),
            milliseconds(row["step_ms"]),
            bytes_text(row["memory_bytes"]),
        )
    out = console()
    out.print(table)
    for row in data["rows"]:
        if row["step_failed"]:
            out.print(f"{row['recipe']}: no step could be measured: {row['step_failed']}", markup=False)
