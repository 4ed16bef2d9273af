"""Jobs and answers of a measuring process: frozen, and JSON on the way. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from densenets.profiling.step import Precision, StepConfig
from densenets.schema import read

WORKER = "densenets.profiling.worker"  # the module that a measuring process runs

_RANDOM_STEPS = 20  # of networks whose steps differ, as layers are left out by chance


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Number of steps, and conditions under which they are taken.

    Attributes:
        warmup: steps before those that count.
        steps: that count.
        most_seconds: after so many no further step is begun, but for the three that are needed; 0: no limit.
        threads: that PyTorch computes with; 0 for its own choice.
        keep_freed_memory: whether the process keeps what it frees (`machine.keep_freed_memory`).
    """

    warmup: int = 3
    steps: int = 7
    most_seconds: float = 20.0
    threads: int = 0
    keep_freed_memory: bool = True


@dataclass(frozen=True, kw_only=True)
class StepJob:
    """A step whose time, or whose memory in use, a process measures."""

    step: StepConfig
    protocol: Protocol
    quantity: Literal["time", "memory"]

    @classmethod
    def of_time(cls, step: StepConfig) -> StepJob:
        """The usual measurement of time, and of the peak that the system sees."""
        protocol = Protocol(steps=_RANDOM_STEPS) if step.network.skips_layers else Protocol()
        return cls(step=step, protocol=protocol, quantity="time")

    @classmethod
    def of_memory(cls, step: StepConfig, threads: int = 0) -> StepJob:
        """The measurement of the memory in use, for which few steps are enough."""
        steps = _RANDOM_STEPS - 1 if step.network.skips_layers else 1
        return cls(step=step, protocol=Protocol(warmup=1, steps=steps, threads=threads), quantity="memory")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {
            "step": self.step.to_dict(),
            "protocol": dataclasses.asdict(self.protocol),
            "quantity": self.quantity,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> StepJob:
        """The job that `to_dict` was made from."""
        return cls(
            step=StepConfig.from_dict(fields["step"]),
            protocol=read(Protocol, fields["protocol"], "not a protocol"),
            quantity=fields["quantity"],
        )


@dataclass(frozen=True, kw_only=True)
class MachineJob:
    """The most that the processor computes, in each precision."""

    threads: int
    precisions: tuple[Precision, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {"threads": self.threads, "precisions": list(self.precisions)}


@dataclass(frozen=True, kw_only=True)
class StepPhases:
    """Seconds of a step, and of its forward pass, its backward pass and the optimiser."""

    step: float
    forward: float
    backward: float = 0.0
    optimizer: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """Answer of a process that timed steps.

    Attributes:
        warmup: steps that do not count.
        steps: that count.
        peak_bytes: at the peak, above the process that has all libraries loaded: weights, activations,
            gradients, workspaces; of a GPU its allocator's. None where the system does not tell.
        memory_measured_by: VmHWM, ru_maxrss (a lower bound), allocator or nothing.
        loss: of the first step, which all variants of a network share but for rounding; None if not a number.
        kept_freed_memory: whether the process kept what it freed.
        ran: the execution that an asked-for one became, and why.
        machine: device, versions and date.
    """

    warmup: tuple[StepPhases, ...]
    steps: tuple[StepPhases, ...]
    peak_bytes: int | None
    memory_measured_by: str
    loss: float | None
    kept_freed_memory: bool
    ran: str
    machine: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The peak without what the allocator holds in reserve, in bytes; None where that cannot be told."""

    in_use_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most that a processor computes in one precision.

    Attributes:
        gigaflops: 10^9 additions and multiplications a second.
        measured_by: "FMA" or "AMX", the instructions; or "matrix product", what the library attains.
    """

    gigaflops: float
    measured_by: str


@dataclass(frozen=True, kw_only=True)
class MachinePeaks:
    """Name of a processor, and the most that it computes.

    Attributes:
        device: its name.
        threads: that PyTorch computes with.
        peaks: by precision.
    """

    device: str
    threads: int
    peaks: dict[Precision, Peak]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return dataclasses.asdict(self)
