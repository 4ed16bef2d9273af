"""Time and memory of variants as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from densenets.figures.numbers import bytes_text
from densenets.profiling.benchmark_report import (
    BenchmarkCase,
    BenchmarkReport,
    DepthLine,
    FailedVariant,
    MeasuredVariant,
)
from densenets.subprocess_jobs import JobFailure
from densenets.terminal import console, print_table


def print_benchmark(report: BenchmarkReport, *, stderr: bool = False) -> None:
    """Print what a benchmark measured: of each case a table of time and one of memory.

    Args:
        report: of `run_benchmarks`.
        stderr: print to standard error, where standard output is for JSON.
    """
    out = console(stderr=stderr)
    for name, case in report.cases.items():
        config = case.config
        sizes = "x".join(str(size) for size in (config.network.in_channels, *config.sides))
        what = "training steps" if config.mode == "train" else "forward passes"
        out.print(f"{name}: {what} of {config.model}, batch {config.batch} of {sizes}", markup=False)
        if not config.only_memory:
            print_table(out, _time_table(case))
        print_table(out, _memory_table(case))
        for remark in _remarks(case):
            out.print(remark, markup=False, style="dim")
        out.print()
    if isinstance(report.machine, JobFailure):
        device, peaks = report.environment["device"], f"unknown, failed: {report.machine.reason}"
    else:
        device = report.machine.device
        peaks = ", ".join(
            f"{precision} {peak.gigaflops:,.0f} GFLOP/s ({peak.measured_by})"
            for precision, peak in report.machine.peaks.items()
        )
    out.print(
        f"{device}, torch {report.environment['torch']}; peak: {peaks or 'not measured'}. FLOPs are "
        "the network's own, without what is recomputed. Memory is above the process with its libraries "
        "loaded: resident as the system sees it, in use without what the allocator holds in reserve.",
        style="dim",
        markup=False,
    )


def print_depths(lines: Sequence[DepthLine], *, stderr: bool = False) -> None:
    """Print memory in use against depth.

    Args:
        lines: one a variant, all of the same depths.
        stderr: print to standard error, where standard output is for JSON.
    """
    table = Table(title="memory in use against depth", box=None)
    table.add_column("depth", justify="right")
    for line in lines:
        table.add_column(line.variant, justify="right")
    for depth in lines[0].in_use_bytes:
        table.add_row(f"{depth}", *(bytes_text(line.in_use_bytes[depth]) for line in lines))
    table.add_section()
    table.add_row("off a line by", *(_percent(line.residual) for line in lines))
    table.add_row("without weights and gradients", *(_percent(line.activations_residual) for line in lines))
    print_table(console(stderr=stderr), table)


def _time_table(case: BenchmarkCase) -> Table:
    table = Table(box=None)
    table.add_column("time", no_wrap=True)
    for column in ("median (ms)", "min ... max (ms)", "GFLOP/s", "of peak", "faster"):
        table.add_column(column, justify="right")
    for row in case.rows:
        table.add_row(row.variant.name, *_time_cells(case, row))
    return table


def _time_cells(case: BenchmarkCase, row: MeasuredVariant | FailedVariant) -> list[str]:
    if isinstance(row, FailedVariant):
        return ["failed"]
    timing = row.timing
    assert timing is not None
    return [
        f"{1000 * timing.median_seconds:,.1f}",
        f"{1000 * timing.min_seconds:,.1f} ... {1000 * timing.max_seconds:,.1f}",
        f"{timing.gigaflops:,.1f}",
        _percent(timing.share_of_peak),
        _ratio(case.ratios(row).times_faster),
    ]


def _memory_table(case: BenchmarkCase) -> Table:
    table = Table(box=None)
    table.add_column("memory", no_wrap=True)
    for column in ("resident", "in use"):
        for heading in (column, "of fastest", "of leanest"):
            table.add_column(heading, justify="right")
    for row in case.rows:
        table.add_row(row.variant.name, *_memory_cells(case, row))
    return table


def _memory_cells(case: BenchmarkCase, row: MeasuredVariant | FailedVariant) -> list[str]:
    if isinstance(row, FailedVariant):
        return ["failed"]
    ratios = case.ratios(row)
    return [
        bytes_text(row.peak_bytes),
        _ratio(ratios.peak_of_fastest),
        _ratio(ratios.peak_of_leanest),
        bytes_text(row.in_use_bytes),
        _ratio(ratios.in_use_of_fastest),
        _ratio(ratios.in_use_of_leanest),
    ]


def _remarks(case: BenchmarkCase) -> list[str]:
    """Lines below the tables: why variants failed, and what the ratios are to."""
    remarks = []
    for row in case.rows:
        if isinstance(row, FailedVariant):
            remarks.append(f"{row.variant.name} failed: {row.failure.reason}")
        elif row.in_use_failure:
            remarks.append(f"{row.variant.name}, memory in use, failed: {row.in_use_failure.reason}")
    remarks += case.notes
    for measured in {row.variant.precision: row for row in case.measured}.values():
        ratios = case.ratios(measured)
        peak, in_use = ratios.leanest_peak or "-", ratios.leanest_in_use or "-"
        leanest = peak if peak == in_use else f"{peak} (resident) and {in_use} (in use)"
        remarks.append(
            f"{measured.variant.precision}: fastest is {ratios.fastest or '-'}, leanest is {leanest}"
        )
    measured_by = {row.memory_measured_by for row in case.measured}
    if "nothing" in measured_by:
        remarks.append("this system does not tell the memory of a process; Linux and macOS do")
    elif "ru_maxrss" in measured_by:
        remarks.append("this system cannot reset the high-water mark: resident memory is at least that much")
    return remarks


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
