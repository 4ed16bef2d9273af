"""Cost of training steps: multiply-adds by arithmetic, time and memory measured. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from densenets.analysis.cost.cost_config import CostConfig
from densenets.models.layer_table import layer_table
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import MeasuredStep, measured_step, step_figures
from densenets.profiling.step import StepConfig
from densenets.subprocess_jobs import JobFailure

_BACKWARD = 2  # forward passes that a backward pass takes by arithmetic
_FLOPS = 2  # of a multiply-add

_OF_A_MEASUREMENT = ("ran", "device", "optimizer_ms", "forward_gigaflops", "backward_gigaflops")


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """Cost of a network's training step in one execution; what is measured is None where that failed.

    Attributes:
        model: the network's name.
        execution: of its dense blocks.
        depth: of the network.
        parameters: of the network.
        multiply_adds: of a forward pass of one image.
        batch: images of the step.
        forward_ms: milliseconds an image, as the other times.
        backward_ms: of the backward pass.
        step_ms: of the whole step.
        memory_bytes: at the peak.
        ran: the execution that an asked-for one became, and why.
        device: that it ran on.
        optimizer_ms: of the optimiser.
        forward_gigaflops: 10^9 additions and multiplications a second that the arithmetic asks for, without
            what is made again.
        backward_gigaflops: of the backward pass, by arithmetic two forward passes.
        failed: why it could not be measured; empty if it was.
    """

    model: str
    execution: Execution
    depth: int
    parameters: int
    multiply_adds: int
    batch: int
    forward_ms: float | None = None
    backward_ms: float | None = None
    step_ms: float | None = None
    memory_bytes: int | None = None
    ran: str = ""
    device: str = ""
    optimizer_ms: float | None = None
    forward_gigaflops: float | None = None
    backward_gigaflops: float | None = None
    failed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them: what was measured, or why it failed."""
        fields = dataclasses.asdict(self)
        left_out = _OF_A_MEASUREMENT if self.failed else ("failed",)
        return {name: value for name, value in fields.items() if name not in left_out}


@dataclass(frozen=True, kw_only=True)
class CostRatios:
    """A row's quantities by those of the last row that was measured; None where one of the two is not known.

    Attributes:
        model: the network's name.
        execution: of its dense blocks.
        parameters: of the network.
        multiply_adds: of a forward pass.
        forward_ms: time of the forward pass.
        backward_ms: time of the backward pass.
        step_ms: time of the whole step.
        memory_bytes: at the peak.
    """

    model: str
    execution: Execution
    parameters: float | None
    multiply_adds: float | None
    forward_ms: float | None
    backward_ms: float | None
    step_ms: float | None
    memory_bytes: float | None


@dataclass(frozen=True, kw_only=True)
class StepCosts:
    """Training steps that are compared.

    Attributes:
        sides: of an image, in pixels.
        rows: a row a network and execution.
    """

    sides: tuple[int, ...]
    rows: tuple[CostRow, ...]

    def compared_to_last(self) -> list[CostRatios]:
        """Each row by the last that was measured."""
        measured = [row for row in self.rows if not row.failed]
        return [_ratios(row, measured[-1] if measured else None) for row in self.rows]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "sides": list(self.sides),
            "rows": [row.to_dict() for row in self.rows],
            "compared_to_last": [dataclasses.asdict(row) for row in self.compared_to_last()],
        }


def step_costs(config: CostConfig, announce: Callable[[str], None]) -> StepCosts:
    """Measure every network in every execution, each in processes of its own.

    Args:
        config: what is measured.
        announce: told of each measurement before it is made.
    """
    rows = []
    for name, step in config.steps:
        announce(f"{name}, {step.execution}")
        rows.append(cost_row(name, step, measured_step(step)))
    return StepCosts(sides=config.step.sides, rows=tuple(rows))


def cost_row(name: str, step: StepConfig, cost: MeasuredStep | JobFailure) -> CostRow:
    """Cost of a step that was measured, or that failed."""
    facts = layer_table(name, step.network, step.sides)
    multiply_adds = facts.total("multiply_adds")
    row = CostRow(
        model=name,
        execution=step.execution,
        depth=step.network.depth,
        parameters=facts.total("parameters"),
        multiply_adds=multiply_adds,
        batch=step.batch,
    )
    if isinstance(cost, JobFailure):
        return dataclasses.replace(row, failed=cost.reason)
    figures, gigaflops = step_figures(cost), _FLOPS * multiply_adds * step.batch / 1e9
    return dataclasses.replace(
        row,
        forward_ms=figures.forward_ms,
        backward_ms=figures.backward_ms,
        step_ms=figures.step_ms,
        memory_bytes=figures.memory_bytes,
        ran=cost.ran,
        device=cost.device,
        optimizer_ms=figures.optimizer_ms,
        forward_gigaflops=gigaflops / cost.forward_seconds,
        backward_gigaflops=_BACKWARD * gigaflops / cost.backward_seconds,
    )


def _ratios(row: CostRow, last: CostRow | None) -> CostRatios:
    def ratio(quantity: str) -> float | None:
        above, below = getattr(row, quantity), getattr(last, quantity, None)
        return above / below if above and below else None

    return CostRatios(
        model=row.model,
        execution=row.execution,
        parameters=ratio("parameters"),
        multiply_adds=ratio("multiply_adds"),
        forward_ms=ratio("forward_ms"),
        backward_ms=ratio("backward_ms"),
        step_ms=ratio("step_ms"),
        memory_bytes=ratio("memory_bytes"),
    )
