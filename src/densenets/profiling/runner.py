"""Benchmarks: the variants of a network measured in turn, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch

from densenets.machine import environment
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.results import Row, compared, step_flops, timing
from densenets.profiling.step import Precision
from densenets.profiling.variants import named_variant, torchvision_refusal
from densenets.profiling.worker_jobs import WORKER, MachineJob, StepJob, StepTimes
from densenets.progress import progress_bar
from densenets.schema import read
from densenets.subprocess_jobs import run_job


def run_benchmarks(cases: Mapping[str, BenchmarkConfig]) -> dict[str, Any]:
    """Measure each variant of each case, in processes of its own: time and peak memory, then memory in use.

    A variant that fails has a row with "failed", the reason in one line, and "stderr", the end of what its
    process printed; the others are measured all the same.

    Args:
        cases: name -> what is measured; all with the same number of threads.

    Returns:
        device, versions, date and command; threads and peaks of the machine; and cases, each with its
        config, flops of a step, notes and rows, as JSON can hold them.
    """
    (threads,) = {config.threads for config in cases.values()}
    report = environment(torch.device("cpu"))
    count = sum(len(config.variants) * (config.rounds + 1) for config in cases.values())
    with progress_bar() as bar:
        task = bar.add_task("the machine", total=1 + count)

        def measure(job: StepJob | MachineJob, description: str) -> Row:
            bar.update(task, description=description)
            result = _measure(job)
            bar.advance(task)
            return result

        # A process that failed says so in the report; the peaks are then unknown.
        machine = MachineJob(threads=threads, precisions=_timed_precisions(cases))
        report |= {"peaks": {}} | measure(machine, "the machine")
        measured = {
            name: _case(config, _measured_rows(name, config, report["peaks"], measure))
            for name, config in cases.items()
        }
    return report | {"cases": measured}


def _measured_rows(
    name: str, config: BenchmarkConfig, peaks: Row, measure: Callable[[StepJob, str], Row]
) -> list[Row]:
    """A row a variant: all are timed round by round, then the memory in use is measured."""
    timed: dict[str, list[Row]] = {variant: [] for variant in config.variants}
    for _, variant in product(range(config.rounds), config.variants):
        result = measure(config.time_job(named_variant(variant)), f"{name}: {variant}")
        timed[variant].append(result if "failed" in result else _time_row(result))
    rows = []
    for variant in config.variants:
        row = _pooled(timed[variant])
        if "failed" not in row:  # What failed is not tried again.
            in_use = measure(config.memory_job(named_variant(variant)), f"{name}: {variant}, memory in use")
            row |= {"in_use_bytes": in_use.get("in_use_bytes")}
            if "failed" in in_use:  # Time and peak stand although the second process failed.
                row |= {"in_use_failed": in_use}
        rows.append(_row(config, variant, row, peaks))
    return rows


def _timed_precisions(cases: Mapping[str, BenchmarkConfig]) -> tuple[Precision, ...]:
    timed = [config for config in cases.values() if not config.only_memory]
    return tuple(sorted({named_variant(name).precision for config in timed for name in config.variants}))


def _time_row(result: Row) -> Row:
    times = read(StepTimes, result, "the result of a measuring process")
    return {
        "seconds": [step.step for step in times.steps],
        "warmup_seconds": [step.step for step in times.warmup],
        "peak_bytes": times.peak_bytes,
        "memory_measured_by": times.memory_measured_by,
        "loss": times.loss,
        "kept_freed_memory": times.kept_freed_memory,
    }


def _pooled(rounds: Sequence[Row]) -> Row:
    """The steps of all rounds together; a round that failed is the variant's failure."""
    for row in rounds:
        if "failed" in row:
            return row
    return {
        **rounds[0],
        "seconds": [seconds for row in rounds for seconds in row["seconds"]],
        "warmup_seconds": [seconds for row in rounds for seconds in row["warmup_seconds"]],
        "peak_bytes": max(row["peak_bytes"] for row in rounds),
    }


def _row(config: BenchmarkConfig, name: str, measured: Row, peaks: Row) -> Row:
    variant = named_variant(name)
    row = {"variant": name, "base": variant.base, "precision": variant.precision, **measured}
    if "failed" in row or config.only_memory:
        return row
    peak = peaks.get(variant.precision, {}).get("gigaflops")
    return row | timing(row["seconds"], step_flops(config), peak)


def _case(config: BenchmarkConfig, rows: list[Row]) -> Row:
    refusal = torchvision_refusal(config.network)
    return {
        **config.to_dict(),
        "step_flops": step_flops(config),
        "notes": [f"{refusal}: compared with our reference"] if refusal else [],
        "rows": compared(rows),
    }


def _measure(job: StepJob | MachineJob) -> Row:
    """What the worker measured, or why it failed and the end of its standard error."""
    return run_job(WORKER, job.to_dict())
