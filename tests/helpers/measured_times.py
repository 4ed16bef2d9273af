"""What processes that measure would have answered, and steps that are measured from such answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densenets.profiling.measured_step import MeasuredStep
from densenets.profiling.worker_jobs import MachinePeaks, StepMemory, StepPhases, StepTimes
from densenets.subprocess_jobs import JobFailure

NO_PEAKS = MachinePeaks(device="some", threads=1, peaks={})


def times(*seconds: float, warmup: Sequence[float] = (), peak_bytes: int = 10) -> StepTimes:
    """The answer of a process that timed steps which took these seconds."""
    return StepTimes(
        warmup=tuple(_phases(step) for step in warmup),
        steps=tuple(_phases(step) for step in seconds),
        peak_bytes=peak_bytes,
        memory_measured_by="VmHWM",
        loss=1.0,
        kept_freed_memory=False,
        ran="reference",
        machine={"device": "a CPU"},
    )


def _phases(step: float) -> StepPhases:
    return StepPhases(step=step, forward=1.0, backward=2.0, optimizer=0.5)


def given_step(**changes: Any) -> MeasuredStep:
    """A measured step, with changes."""
    fields: dict[str, Any] = {
        "forward_seconds": 0.2,
        "backward_seconds": 0.4,
        "optimizer_seconds": 0.04,
        "steps": 7,
        "batch": 64,
        "ran": "reference (as asked for)",
        "memory_bytes": 10,
        "in_use_bytes": 8,
        "machine": {"device": "some processor"},
    }
    return MeasuredStep(**{**fields, **changes})


def no_step(reason: str) -> JobFailure:
    """The failure of a process, with a reason."""
    return JobFailure(reason=reason, stderr="")


def given_answer(module: str, job: dict[str, Any], answer: type) -> object:
    """What `run_job` returns, of a process that is not started."""
    if answer is MachinePeaks:
        return NO_PEAKS
    return StepMemory(in_use_bytes=2**20 * job["step"]["batch"]) if answer is StepMemory else times(0.5, 0.6)
