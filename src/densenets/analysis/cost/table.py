"""What training steps cost as a table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.numbers import bytes_text, milliseconds, short
from densenets.terminal import console


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
            " / ".join(_speed(speed) for speed in speeds),
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


def _speed(gigaflops: float | None) -> str:
    return "-" if gigaflops is None else f"{gigaflops:.3g}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
