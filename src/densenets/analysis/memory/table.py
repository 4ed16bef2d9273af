"""Training memory against depth and batch as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.numbers import bytes_text
from densenets.terminal import console


def print_memory(data: dict[str, Any]) -> None:
    """Print memory against depth and batch, and what it grows with."""
    out = console()
    out.print(_by_depth(data))
    out.print(_by_batch(data))
    for line in data["failures"]:
        out.print(line, markup=False)
    for row in data["largest"]:
        batch = "-" if row["batch"] is None else row["batch"]
        out.print(
            f"{row['execution']}: the largest batch in {bytes_text(data['memory'])} is {batch} "
            f"({row['known_by']}, {bytes_text(row['bytes'])})"
        )
    out.print(
        "measured: in use at the peak of a training step (weights, gradients, momentum, activations, "
        "workspace); predicted: activations that summary counts, with weights, gradients and momentum",
        style="dim",
    )


def _by_depth(data: dict[str, Any]) -> Table:
    table = Table(box=None, title=f"{data['model']}: training memory of one image more, measured (predicted)")
    table.add_column("depth", justify="right")
    table.add_column("dense layers", justify="right")
    executions = [row["execution"] for row in data["growth"]]
    for execution in executions:
        table.add_column(execution, justify="right")
    cells = {(row["execution"], row["layers"]): row for row in data["by_depth"]}
    for depth, layers in dict.fromkeys((row["depth"], row["layers"]) for row in data["by_depth"]):
        table.add_row(
            f"{depth}",
            f"{layers}",
            *(
                f"{bytes_text(row['image_bytes'])} ({bytes_text(row['predicted_image_bytes'])})"
                for row in (cells[execution, layers] for execution in executions)
            ),
        )
    table.add_section()
    powers = [f"layers^{_exponent(row)}" for row in data["growth"]]
    table.add_row("", "grows as", *powers)
    return table


def _by_batch(data: dict[str, Any]) -> Table:
    table = Table(box=None, title="peak training memory, measured (predicted)")
    table.add_column("batch", justify="right")
    executions = [row["execution"] for row in data["growth"]]
    for execution in executions:
        table.add_column(execution, justify="right")
    cells = {(row["execution"], row["batch"]): row for row in data["by_batch"]}
    for batch in dict.fromkeys(row["batch"] for row in data["by_batch"]):
        rows = [cells[execution, batch] for execution in executions]
        table.add_row(
            f"{batch}",
            *(f"{bytes_text(r.get('measured_bytes'))} ({bytes_text(r['predicted_bytes'])})" for r in rows),
        )
    return table


def _exponent(row: dict[str, Any]) -> str:
    return "-" if row["exponent"] is None else f"{row['exponent']:.3g}"
