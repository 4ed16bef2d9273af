"""Benchmarks: the variants of a network measured in turn, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeVar

import torch
from rich.progress import Progress

from densenets.machine import environment
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.benchmark_report import (
    BenchmarkCase,
    BenchmarkReport,
    FailedVariant,
    MeasuredVariant,
    step_flops,
    timing,
)
from densenets.profiling.step import Precision
from densenets.profiling.variants import Variant, torchvision_refusal
from densenets.profiling.worker_jobs import WORKER, MachineJob, MachinePeaks, StepJob, StepMemory, StepTimes
from densenets.progress import progress_bar
from densenets.subprocess_jobs import JobFailure, run_job

Answer = TypeVar("Answer")


def run_benchmarks(cases: Mapping[str, BenchmarkConfig]) -> BenchmarkReport:
    """Measure each variant of each case, in processes of its own: time and peak memory, then memory in use.

    Where a variant fails, the others are measured all the same.

    Args:
        cases: name -> what is measured; all with the same number of threads.
    """
    (threads,) = {config.threads for config in cases.values()}
    surroundings = environment(torch.device("cpu"))
    count = sum(len(config.measured_variants) * (config.rounds + 1) for config in cases.values())
    with progress_bar() as bar:
        processes = _Processes(bar, 1 + count)
        job = MachineJob(threads=threads, precisions=_timed_precisions(cases))
        machine = processes.measure(job, MachinePeaks, "the machine")
        measured = {name: _case(name, config, machine, processes) for name, config in cases.items()}
    return BenchmarkReport(environment=surroundings, machine=machine, cases=measured)


class _Processes:
    """Measuring processes, one after the other, with their progress on a bar."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("the machine", total=total)

    def measure(
        self, job: StepJob | MachineJob, answer: type[Answer], description: str
    ) -> Answer | JobFailure:
        self._bar.update(self._task, description=description)
        result = _measure(job, answer)
        self._bar.advance(self._task)
        return result


def _measure(job: StepJob | MachineJob, answer: type[Answer]) -> Answer | JobFailure:
    return run_job(WORKER, job.to_dict(), answer)


def _timed_precisions(cases: Mapping[str, BenchmarkConfig]) -> tuple[Precision, ...]:
    timed = [config for config in cases.values() if not config.only_memory]
    return tuple(sorted({variant.precision for config in timed for variant in config.measured_variants}))


def _case(
    name: str, config: BenchmarkConfig, machine: MachinePeaks | JobFailure, processes: _Processes
) -> BenchmarkCase:
    """A row a variant: all are timed round by round, then the memory in use is measured."""
    variants = config.measured_variants
    timed: dict[Variant, list[StepTimes | JobFailure]] = {variant: [] for variant in variants}
    for _, variant in product(range(config.rounds), variants):
        times = processes.measure(config.time_job(variant), StepTimes, f"{name}: {variant.name}")
        timed[variant].append(times)
    flops, refusal = step_flops(config), torchvision_refusal(config.network)
    rows: list[MeasuredVariant | FailedVariant] = []
    for variant, rounds in timed.items():
        failure = next((times for times in rounds if isinstance(times, JobFailure)), None)
        if failure:  # of one round, which is the variant's; what failed is not tried again
            rows.append(FailedVariant(variant=variant, failure=failure))
            continue
        description = f"{name}: {variant.name}, memory in use"
        memory = processes.measure(config.memory_job(variant), StepMemory, description)
        whole = [times for times in rounds if isinstance(times, StepTimes)]
        peak = _gigaflops(machine, variant)
        rows.append(_row(config, variant, whole, memory, flops=flops, peak=peak))
    return BenchmarkCase(
        config=config,
        step_flops=flops,
        notes=(f"{refusal}: compared with our reference",) if refusal else (),
        rows=tuple(rows),
    )


def _gigaflops(machine: MachinePeaks | JobFailure, variant: Variant) -> float | None:
    """The machine's peak in a variant's precision; None where it is not known."""
    if isinstance(machine, JobFailure) or variant.precision not in machine.peaks:
        return None
    return machine.peaks[variant.precision].gigaflops


def _row(
    config: BenchmarkConfig,
    variant: Variant,
    rounds: Sequence[StepTimes],
    memory: StepMemory | JobFailure,
    *,
    flops: int,
    peak: float | None,
) -> MeasuredVariant:
    """The steps of all rounds together; they stand although the memory in use could not be measured."""
    seconds = tuple(step.step for times in rounds for step in times.steps)
    return MeasuredVariant(
        variant=variant,
        seconds=seconds,
        warmup_seconds=tuple(step.step for times in rounds for step in times.warmup),
        peak_bytes=max((t.peak_bytes for t in rounds if t.peak_bytes is not None), default=None),
        memory_measured_by=rounds[0].memory_measured_by,
        loss=rounds[0].loss,
        kept_freed_memory=rounds[0].kept_freed_memory,
        in_use_bytes=None if isinstance(memory, JobFailure) else memory.in_use_bytes,
        in_use_failure=memory if isinstance(memory, JobFailure) else None,
        timing=None if config.only_memory else timing(seconds, flops, peak),
    )
