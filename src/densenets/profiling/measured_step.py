"""Time and memory of a training step, measured in processes of their own, and read again from a file."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, TypeGuard

from densenets.files import read_json
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import WORKER, StepJob, StepTimes
from densenets.schema import fits, read
from densenets.subprocess_jobs import run_job


def measured_step(config: StepConfig) -> dict[str, Any]:
    """Time and memory of a training step, in processes of their own.

    Returns:
        forward_seconds, backward_seconds and optimizer_seconds of a step: medians, or means where the steps
        of a network differ by chance; steps, how many were measured; batch; ran, the execution and why;
        memory_bytes at the peak (on a CPU resident, above the process with its libraries); in_use_bytes; and
        the machine. Or "failed", the reason.
    """
    result = run_job(WORKER, StepJob.of_time(config).to_dict())
    if "failed" in result:
        return result
    times = read(StepTimes, result, "the result of a measuring process")
    average = statistics.fmean if config.network.skips_layers else statistics.median
    return {
        "forward_seconds": average([step.forward for step in times.steps]),
        "backward_seconds": average([step.backward for step in times.steps]),
        "optimizer_seconds": average([step.optimizer for step in times.steps]),
        "steps": len(times.steps),
        "batch": config.batch,
        "ran": times.ran,
        "memory_bytes": times.peak_bytes,
        **times.machine,
        # Time stands although the second process failed.
        "in_use_bytes": measured_memory(config).get("in_use_bytes"),
    }


def measured_memory(config: StepConfig) -> dict[str, Any]:
    """The peak of a step alone, in a process of its own.

    Returns:
        in_use_bytes, None where that cannot be told; or "failed", the reason.
    """
    return run_job(WORKER, StepJob.of_memory(config).to_dict())


def read_measured_step(file: Path) -> dict[str, Any] | None:
    """What `measured_step` returned and was written to a file; None without one of this version."""
    value = read_json(file) if file.exists() else None
    return value if is_measured_step(value) else None


def is_measured_step(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value that was read from a file is what `measured_step` returns of a step."""
    from densenets.records import MeasuredStep  # which takes a library that a command's start does not need

    return fits(MeasuredStep, value)


def step_seconds(cost: dict[str, Any]) -> float | None:
    """Seconds of a measured step; None without one."""
    if "forward_seconds" not in cost:
        return None
    return float(cost["forward_seconds"] + cost["backward_seconds"] + cost["optimizer_seconds"])


def peak_bytes(cost: dict[str, Any]) -> int | None:
    """Bytes at the peak: in use where that is known, else as the system saw them; None without a step."""
    in_use = cost.get("in_use_bytes")
    return cost.get("memory_bytes") if in_use is None else in_use


def phases_per_image(cost: dict[str, Any]) -> dict[str, float | None]:
    """Milliseconds an image of a measured step, forward and backward pass apart; None without one."""
    seconds = step_seconds(cost)
    if seconds is None:
        return {"forward_ms": None, "backward_ms": None, "step_ms": None}
    per_image = 1000 / cost["batch"]
    return {
        "forward_ms": cost["forward_seconds"] * per_image,
        "backward_ms": cost["backward_seconds"] * per_image,
        "step_ms": seconds * per_image,
    }
