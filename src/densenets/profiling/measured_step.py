"""Time and memory of a training step, measured in processes of their own, and the file that holds them."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenets.errors import InputError
from densenets.files import read_json
from densenets.limits import MOST_IMAGES
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import WORKER, StepJob, StepMemory, StepTimes
from densenets.schema import read
from densenets.subprocess_jobs import JobFailure, run_job

_MOST_SECONDS, _MOST_BYTES = 1e9, 2**53  # that are computed with


@dataclass(frozen=True, kw_only=True)
class MeasuredStep:
    """Time and memory of a training step.

    Attributes:
        forward_seconds: of a step: the median, or the mean where the steps of a network differ by chance.
        backward_seconds: likewise.
        optimizer_seconds: likewise.
        batch: images of a step.
        ran: the execution that an asked-for one became, and why.
        machine: device, versions, date and command.
        steps: how many were measured; None in an older version's file.
        memory_bytes: at the peak: of a CPU resident, above the process with its libraries.
        in_use_bytes: at the peak, without what the allocator holds in reserve; None where that is not known.

    Raises:
        InputError: a number is out of its range.
    """

    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    batch: int
    ran: str
    machine: dict[str, Any]
    steps: int | None = None
    memory_bytes: int | None = None
    in_use_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("forward_seconds", "backward_seconds"):
            if not 0 < getattr(self, name) <= _MOST_SECONDS:
                raise InputError(f"{name} must be above 0 and at most 1e9, got {getattr(self, name)}")
        if not 0 <= self.optimizer_seconds <= _MOST_SECONDS:
            raise InputError(f"optimizer_seconds must be from 0 to 1e9, got {self.optimizer_seconds}")
        if not 1 <= self.batch <= MOST_IMAGES:
            raise InputError(f"batch must be from 1 to {MOST_IMAGES}, got {self.batch}")
        for name in ("memory_bytes", "in_use_bytes"):
            if not 0 <= (getattr(self, name) or 0) <= _MOST_BYTES:
                raise InputError(f"{name} must be from 0 to {_MOST_BYTES}, got {getattr(self, name)}")
        if not isinstance(self.machine.get("device"), str):
            raise InputError("machine must name its device")

    @property
    def device(self) -> str:
        """The device that it ran on."""
        return str(self.machine["device"])

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        return self.forward_seconds + self.backward_seconds + self.optimizer_seconds

    @property
    def peak_bytes(self) -> int | None:
        """Bytes at the peak: in use where that is known, else as the system saw them."""
        return self.memory_bytes if self.in_use_bytes is None else self.in_use_bytes

    def milliseconds_an_image(self, seconds: float) -> float:
        """Seconds of the step, or of a part of it, as milliseconds an image."""
        return seconds * (1000 / self.batch)

    def to_dict(self) -> dict[str, Any]:
        """The fields as its file holds them."""
        return {
            "forward_seconds": self.forward_seconds,
            "backward_seconds": self.backward_seconds,
            "optimizer_seconds": self.optimizer_seconds,
            "steps": self.steps,
            "batch": self.batch,
            "ran": self.ran,
            "memory_bytes": self.memory_bytes,
            **self.machine,
            "in_use_bytes": self.in_use_bytes,
        }

    @classmethod
    def from_dict(cls, value: object) -> MeasuredStep:
        """The step that `to_dict` was made from.

        Raises:
            InputError: it is none of this version.
        """
        what = "this is no measured step"
        if not isinstance(value, dict):
            raise InputError(f"{what}: expected object, got {type(value).__name__}")
        own = {field.name for field in dataclasses.fields(cls)} - {"machine"}
        fields = {name: item for name, item in value.items() if name in own}
        machine = {name: item for name, item in value.items() if name not in own}
        return read(cls, {**fields, "machine": machine}, what)


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """Time and memory of a step as tables show them; None where no step was measured.

    Attributes:
        forward_ms: milliseconds an image, as the other times.
        backward_ms: of the backward pass.
        optimizer_ms: of the optimiser.
        step_ms: of the whole step.
        memory_bytes: at the peak.
        failed: why no step could be measured.
    """

    forward_ms: float | None = None
    backward_ms: float | None = None
    optimizer_ms: float | None = None
    step_ms: float | None = None
    memory_bytes: int | None = None
    failed: str | None = None


def step_figures(step: MeasuredStep | JobFailure | None) -> StepFigures:
    """Figures of a step that was measured, that failed, or that was not measured (None)."""
    if not isinstance(step, MeasuredStep):
        return StepFigures(failed=step.reason if step else None)
    return StepFigures(
        forward_ms=step.milliseconds_an_image(step.forward_seconds),
        backward_ms=step.milliseconds_an_image(step.backward_seconds),
        optimizer_ms=step.milliseconds_an_image(step.optimizer_seconds),
        step_ms=step.milliseconds_an_image(step.seconds),
        memory_bytes=step.peak_bytes,
    )


def measured_step(config: StepConfig) -> MeasuredStep | JobFailure:
    """Time and memory of a training step, in processes of their own."""
    times = run_job(WORKER, StepJob.of_time(config).to_dict(), StepTimes)
    if isinstance(times, JobFailure):
        return times
    average = statistics.fmean if config.network.skips_layers else statistics.median
    memory = measured_memory(config)
    return MeasuredStep(
        forward_seconds=average([step.forward for step in times.steps]),
        backward_seconds=average([step.backward for step in times.steps]),
        optimizer_seconds=average([step.optimizer for step in times.steps]),
        steps=len(times.steps),
        batch=config.batch,
        ran=times.ran,
        memory_bytes=times.peak_bytes,
        machine=times.machine,
        # Time stands although the second process failed.
        in_use_bytes=None if isinstance(memory, JobFailure) else memory.in_use_bytes,
    )


def measured_memory(config: StepConfig) -> StepMemory | JobFailure:
    """The peak of a step alone, in a process of its own."""
    return run_job(WORKER, StepJob.of_memory(config).to_dict(), StepMemory)


def read_measured_step(file: Path) -> MeasuredStep | None:
    """The measured step of a file; None without one of this version."""
    if not file.exists():
        return None
    value = read_json(file)
    try:
        return MeasuredStep.from_dict(value)
    except InputError:
        return None
