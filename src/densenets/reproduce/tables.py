"""The plan and the results of a reproduction, as tables for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from densenets.analysis.learning_curves import reported_split
from densenets.figures.numbers import bytes_text, duration, milliseconds, short
from densenets.files import write_bytes
from densenets.reproduce.plan_cost import PlanRow
from densenets.reproduce.results import ResultRow
from densenets.terminal import console, print_table

_COLUMNS = (
    "network",
    "data",
    "parameters",
    "multiply-adds",
    "paper (%)",
    "ours (%)",
    "seeds",
    "forward (ms)",
    "backward (ms)",
    "memory",
    "training",
)


def print_plan(rows: Sequence[PlanRow], title: str) -> None:
    """Print the plan: the runs of each recipe, and their cost."""
    table = Table(title=title, box=None)
    table.add_column("recipe")
    for column in ("parameters", "epochs", "runs", "done", "multiply-adds", "a step", "time left"):
        table.add_column(column, justify="right")
    for row in rows:
        step = row.step_seconds
        table.add_row(
            row.recipe,
            f"{row.parameters:,}",
            f"{row.epochs}",
            f"{row.runs}",
            f"{row.states['done']}",
            short(row.training_multiply_adds),
            "-" if step is None else f"{1000 * step:,.0f} ms",
            duration(row.seconds_left),
        )
    known = [row.seconds_left for row in rows if row.seconds_left is not None]
    table.add_section()
    table.add_row(
        "total",
        *[""] * 2,
        f"{sum(row.runs for row in rows)}",
        f"{sum(row.states['done'] for row in rows)}",
        short(sum(row.training_multiply_adds for row in rows)),
        "",
        ("at least " if len(known) < len(rows) else "") + duration(sum(known)),
    )
    out = console()
    print_table(out, table)
    for row in rows:
        if row.step_failed:
            out.print(f"{row.recipe}: no step could be measured: {row.step_failed}", markup=False)
    out.print(
        "multiply-adds of all runs, 3 forward passes an image and epoch; the time left is that of a measured "
        "step times the steps that are left, evaluation not counted",
        style="dim",
    )


def print_results(rows: Sequence[ResultRow], title: str) -> None:
    """Print the paper's figures and ours, side by side."""
    table = Table(title=title, box=None)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("network", "data") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    out = console()
    print_table(out, table)
    for line in _remarks(rows):
        out.print(line, markup=False, style="dim", soft_wrap=True)


def write_markdown(rows: Sequence[ResultRow], title: str, machine: str, file: Path) -> None:
    """Write the same table as Markdown, atomically."""
    lines = [
        f"**{title}**",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
        "",
        *(f"{line}  " for line in (*_remarks(rows), machine)),
    ]
    write_bytes(file, ("\n".join(lines) + "\n").encode())


def _cells(row: ResultRow) -> list[str]:
    return [
        row.network,
        row.column,
        f"{row.parameters:,}",
        short(row.multiply_adds),
        "-" if row.paper_error is None else f"{row.paper_error:.2f}",
        _ours(row),
        f"{len(row.results)}",
        milliseconds(row.step.forward_ms),
        milliseconds(row.step.backward_ms),
        bytes_text(row.step.memory_bytes),
        duration(row.training_seconds),
    ]


def _ours(row: ResultRow) -> str:
    if not row.failed:
        return row.error_text
    return f"{row.error_text} (some failed)" if row.results else "failed"


def _remarks(rows: Sequence[ResultRow]) -> list[str]:
    remarks = [
        f"{row.recipe}, seed {seed} failed: {reason}" for row in rows for seed, reason in row.failed.items()
    ]
    batches = sorted({row.batch for row in rows if row.batch})
    measured = f"; a training step measured in batches of {', '.join(map(str, batches))}" if batches else ""
    split = reported_split(row.split for row in rows)
    remarks.append(
        f"{split} error, mean ± standard deviation over the seeds; forward and backward: "
        "milliseconds an image; "
        f"memory at the peak of training{measured}; training: a run's, with its evaluations after every epoch"
    )
    return remarks
