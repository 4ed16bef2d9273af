"""Time and memory of variants as tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from densenets.figures.numbers import bytes_text
from densenets.terminal import console


def print_benchmark(report: dict[str, Any], *, stderr: bool = False) -> None:
    """Print what a benchmark measured: of each case a table of time and one of memory.

    Args:
        report: of `run_benchmarks`.
        stderr: print to standard error, where standard output is for JSON.
    """
    out = console(stderr=stderr)
    for name, case in report["cases"].items():
        sizes = "x".join(str(size) for size in (case["in_channels"], *case["sides"]))
        what = "training steps" if case["mode"] == "train" else "forward passes"
        out.print(f"{name}: {what} of {case['model']}, batch {case['batch']} of {sizes}", markup=False)
        if not case["only_memory"]:
            out.print(_time_table(case["rows"]))
        out.print(_memory_table(case["rows"]))
        for remark in _remarks(case):
            out.print(remark, markup=False, style="dim")
        out.print()
    peaks = [
        f"{precision} {peak['gigaflops']:,.0f} GFLOP/s ({peak['measured_by']})"
        for precision, peak in report["peaks"].items()
    ]
    if "failed" in report:
        peaks = [f"unknown, failed: {report['failed']}"]
    out.print(
        f"{report['device']}, torch {report['torch']}; peak: {', '.join(peaks) or 'not measured'}. FLOPs are "
        "the network's own, without what is recomputed. Memory is above the process with its libraries "
        "loaded: resident as the system sees it, in use without what the allocator holds in reserve.",
        style="dim",
        markup=False,
    )


def print_depths(lines: list[dict[str, Any]], *, stderr: bool = False) -> None:
    """Print memory in use against depth.

    Args:
        lines: each the name of a variant, in_use_bytes (depth -> bytes, None if it failed), and residual and
            activations_residual (of the straight line that fits best, as a share of the value, and the same
            without weights and their gradients; None without three values).
        stderr: print to standard error, where standard output is for JSON.
    """
    table = Table(title="memory in use against depth", box=None)
    table.add_column("depth", justify="right")
    for line in lines:
        table.add_column(line["variant"], justify="right")
    for depth in lines[0]["in_use_bytes"]:
        table.add_row(f"{depth}", *(bytes_text(line["in_use_bytes"][depth]) for line in lines))
    table.add_section()
    table.add_row("off a line by", *(_percent(line["residual"]) for line in lines))
    table.add_row(
        "without weights and gradients", *(_percent(line["activations_residual"]) for line in lines)
    )
    console(stderr=stderr).print(table)


def _time_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("time", no_wrap=True)
    for column in ("median (ms)", "min ... max (ms)", "GFLOP/s", "of peak", "faster"):
        table.add_column(column, justify="right")
    for row in rows:
        if "failed" in row:
            table.add_row(row["variant"], "failed")
            continue
        table.add_row(
            row["variant"],
            f"{1000 * row['median_seconds']:,.1f}",
            f"{1000 * row['min_seconds']:,.1f} ... {1000 * row['max_seconds']:,.1f}",
            f"{row['gigaflops']:,.1f}",
            _percent(row["share_of_peak"]),
            _ratio(row["times_faster"]),
        )
    return table


def _memory_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("memory", no_wrap=True)
    for column in ("resident", "in use"):
        for heading in (column, "of fastest", "of leanest"):
            table.add_column(heading, justify="right")
    for row in rows:
        if "failed" in row:
            table.add_row(row["variant"], "failed")
            continue
        cells = []
        for memory in ("peak", "in_use"):
            cells.append(bytes_text(row[f"{memory}_bytes"]))
            cells += [_ratio(row[f"{memory}_of_{other}"]) for other in ("fastest", "leanest")]
        table.add_row(row["variant"], *cells)
    return table


def _remarks(case: dict[str, Any]) -> list[str]:
    """Why variants failed, and what the ratios are to."""
    remarks = []
    for row in case["rows"]:
        if "failed" in row:
            remarks.append(f"{row['variant']} failed: {row['failed']}")
        if "in_use_failed" in row:
            remarks.append(f"{row['variant']}, memory in use, failed: {row['in_use_failed']['failed']}")
    remarks += case["notes"]
    measured = [row for row in case["rows"] if "failed" not in row]
    for row in {row["precision"]: row for row in measured}.values():
        peak, in_use = row["leanest_peak"] or "-", row["leanest_in_use"] or "-"
        leanest = peak if peak == in_use else f"{peak} (resident) and {in_use} (in use)"
        remarks.append(f"{row['precision']}: fastest is {row['fastest'] or '-'}, leanest is {leanest}")
    if any(row["memory_measured_by"] != "VmHWM" for row in measured):
        remarks.append("this system cannot reset the high-water mark: resident memory is at least that much")
    return remarks


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
