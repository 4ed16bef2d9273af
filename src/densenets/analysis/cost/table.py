"""Cost of training steps as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from densenets.analysis.cost.compute import StepCosts
from densenets.figures.numbers import bytes_text, milliseconds, short
from densenets.terminal import console, print_table


def print_cost(costs: StepCosts) -> None:
    """Print time and memory of training steps, and each row by the last."""
    sides = "x".join(str(side) for side in costs.sides)
    batch = costs.rows[0].batch
    table = Table(box=None, title=f"a training step, batch {batch} of {sides}, milliseconds an image")
    table.add_column("network")
    table.add_column("execution")
    columns = ("parameters", "multiply-adds", "forward", "backward", "optimiser", "step", "GFLOP/s", "memory")
    for column in columns:
        table.add_column(column, justify="right")
    for row in costs.rows:
        table.add_row(
            row.model,
            row.execution,
            f"{row.parameters:,}",
            short(row.multiply_adds),
            milliseconds(row.forward_ms),
            milliseconds(row.backward_ms),
            milliseconds(row.optimizer_ms),
            milliseconds(row.step_ms),
            f"{_speed(row.forward_gigaflops)} / {_speed(row.backward_gigaflops)}",
            "failed" if row.failed else bytes_text(row.memory_bytes),
        )
    out = console()
    print_table(out, table)
    for row in costs.rows:
        if row.failed:
            out.print(f"{row.model}, {row.execution} failed: {row.failed}", markup=False)
    *others, last = costs.compared_to_last()
    for ratios in others:
        out.print(
            f"{ratios.model}, {ratios.execution}, by {last.model}: parameters {_times(ratios.parameters)}, "
            f"multiply-adds {_times(ratios.multiply_adds)}, forward {_times(ratios.forward_ms)}, "
            f"backward {_times(ratios.backward_ms)}, memory {_times(ratios.memory_bytes)}"
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
