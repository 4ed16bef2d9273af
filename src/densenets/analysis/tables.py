"""Analyses as tables for the terminal: plain data in, text out."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.numbers import bytes_text, duration, milliseconds, short
from densenets.terminal import console, plain


def _value(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def print_memory(data: dict[str, Any]) -> None:
    """Print memory against depth and batch, and what it grows with."""
    out = console()
    out.print(_memory_by_depth(data))
    out.print(_memory_by_batch(data))
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


def _memory_by_depth(data: dict[str, Any]) -> Table:
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
    powers = [f"layers^{_value(row['exponent'], 3)}" for row in data["growth"]]
    table.add_row("", "grows as", *powers)
    return table


def _memory_by_batch(data: dict[str, Any]) -> Table:
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


def print_cost(data: dict[str, Any]) -> None:
    """Print what training steps cost, and each row by the last."""
    rows, ratios = data["rows"], data["compared_to_last"]
    sides = "x".join(str(side) for side in data["sides"])
    table = Table(
        box=None, title=f"a training step, batch {rows[0]['batch']} of {sides}, milliseconds an image"
    )
    table.add_column("network")
    table.add_column("execution")
    columns = ("parameters", "multiply-adds", "forward", "backward", "optimiser", "step", "GFLOP/s", "memory")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        speeds = [row.get(f"{phase}_gigaflops") for phase in ("forward", "backward")]
        table.add_row(
            row["model"],
            row["execution"],
            f"{row['parameters']:,}",
            short(row["multiply_adds"]),
            *(milliseconds(row.get(f"{phase}_ms")) for phase in ("forward", "backward", "optimizer", "step")),
            " / ".join(_value(speed, 3) for speed in speeds),
            "failed" if "failed" in row else bytes_text(row["memory_bytes"]),
        )
    out = console()
    out.print(table)
    for row in rows:
        if "failed" in row:
            out.print(f"{row['model']}, {row['execution']} failed: {row['failed']}", markup=False)
    last = f"{ratios[-1]['model']}"
    for row in ratios[:-1]:
        out.print(
            f"{row['model']}, {row['execution']}, by {last}: parameters {_times(row['parameters'])}, "
            f"multiply-adds {_times(row['multiply_adds'])}, forward {_times(row['forward_ms'])}, "
            f"backward {_times(row['backward_ms'])}, memory {_times(row['memory_bytes'])}"
        )
    out.print(
        "GFLOP/s of forward / backward pass by the network's own arithmetic, a backward pass being two "
        "forward passes; what is made again is not counted",
        style="dim",
    )


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


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
