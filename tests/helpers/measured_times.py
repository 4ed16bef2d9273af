"""What a process that timed steps would have answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PHASES = {"forward": 1.0, "backward": 2.0, "optimizer": 0.5}


def times(*seconds: float, warmup: Sequence[float] = (), peak_bytes: int = 10) -> dict[str, Any]:
    """The JSON of `StepTimes`, of steps that took these seconds."""
    return {
        "warmup": [{"step": step, **PHASES} for step in warmup],
        "steps": [{"step": step, **PHASES} for step in seconds],
        "peak_bytes": peak_bytes,
        "memory_measured_by": "VmHWM",
        "loss": 1.0,
        "kept_freed_memory": False,
        "ran": "reference",
        "machine": {"device": "a CPU"},
    }
