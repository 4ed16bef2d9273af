"""Training memory against depth and batch, measured: what grows with the square of depth, and what doesn't.

Every figure is the peak of a training step in a process of its own, beside the prediction that `summary`
makes by arithmetic. Needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import measured_memory
from densenets.profiling.peak_memory import available_memory
from densenets.profiling.step import StepConfig
from densenets.subprocess_jobs import JobFailure

_STORED: dict[Execution, str] = {
    "reference": "stored_reference",
    "recompute": "stored_recompute",
    "fused": "stored_fused",
    "fused-lean": "stored_fused_lean",
}
_BYTES_OF_A_WEIGHT = 3 * 4  # the weight, its gradient and its momentum, float32
_SAFE_SHARE = 0.9  # of the memory that there is
_TRIES = 3  # at a largest batch that does not fit after all

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What is measured.

    Attributes:
        model: as the network is called.
        step: a training step of the whole network; at each depth its batch and half of it are measured, whose
            difference is what an image takes, without what does not grow with the batch.
        scales: shares of the dense layers that networks of other depths have, ascending.
        batches: of the whole network, ascending.
        executions: of the dense blocks.
        memory: bytes that the largest batch has to fit in; 0 asks for none.

    Raises:
        InputError: a list is empty or not ascending, or the network has no dense blocks to scale.
    """

    model: str
    step: StepConfig
    scales: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    batches: tuple[int, ...]
    executions: tuple[Execution, ...]
    memory: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.step.network, DenseNetConfig):
            raise InputError(
                f"{self.model} is a {self.step.network.title}; memory is measured against the depth of dense "
                "blocks, so name a DenseNet"
            )
        if self.step.batch < 2:
            raise InputError(f"batch must be at least 2, since half is measured too, got {self.step.batch}")
        for name in ("scales", "batches"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)) or not values or values[0] <= 0:
                raise InputError(f"{name} must be ascending numbers above 0, got {values}")
        if self.scales[-1] > 4:
            raise InputError(f"scales must be at most 4, got {self.scales}")
        if not self.executions or "auto" in self.executions:
            given = " ".join(self.executions)
            raise InputError(f"executions must be of {', '.join(_STORED)}, got '{given}'")
        if self.memory < 0:
            raise InputError(f"memory must be at least 0 bytes, got {self.memory}")


@dataclass(frozen=True, kw_only=True)
class MemoryGrowth:
    """What was measured; rows are plain data.

    Attributes:
        model: as the network is called.
        batch: the larger of the two from which the rows by depth follow.
        sides: of an image, in pixels.
        by_depth: a row an execution and depth: execution, depth, layers, and image_bytes, measured, and
            predicted_image_bytes of one image's activations; None where a measurement failed.
        by_batch: a row an execution and batch of the whole network: execution, depth, layers, batch,
            predicted_bytes and measured_bytes, or "failed", the reason.
        growth: of each execution, exponent: the power of the number of dense layers with which image_bytes
            grows (1 linear, 2 quadratic), fitted to the logarithms; and of_prediction, measured by predicted
            bytes of an image at the largest depth. None without measurements.
        largest: of each execution, where memory was asked for: batch, bytes, and how that is known.
        failures: what could not be measured, a line each.
        memory: bytes asked for.
    """

    model: str
    batch: int
    sides: tuple[int, ...]
    by_depth: tuple[Row, ...]
    by_batch: tuple[Row, ...]
    growth: tuple[Row, ...]
    largest: tuple[Row, ...]
    failures: tuple[str, ...]
    memory: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return dataclasses.asdict(self)

    def rows(self) -> list[Row]:
        """All measurements, a row each, for a table."""
        names = (
            "execution",
            "depth",
            "layers",
            "batch",
            "measured_bytes",
            "predicted_bytes",
            "image_bytes",
            "predicted_image_bytes",
        )
        return [{name: row.get(name) for name in names} for row in (*self.by_depth, *self.by_batch)]


def memory_growth(config: MemoryConfig, announce: Callable[[str], None]) -> MemoryGrowth:
    """Measure a network at all depths and batches in all executions.

    Args:
        config: what is measured.
        announce: told of each measurement before it is made; `measurements` says how many there are at most.
    """
    measured: dict[StepConfig, Row] = {}

    def measure(step: StepConfig) -> Row:
        if step not in measured:
            announce(f"{step.execution}, depth {step.network.depth}, batch {step.batch}")
            measured[step] = _row(config.model, step)
        return measured[step]

    steps = {
        execution: dataclasses.replace(config.step, execution=execution) for execution in config.executions
    }
    networks = [at_scale(config.step.network, scale) for scale in config.scales]
    halves = (config.step.batch // 2, config.step.batch)
    by_depth = [
        _image_row(*(measure(dataclasses.replace(step, network=network, batch=batch)) for batch in halves))
        for step in steps.values()
        for network in networks
    ]
    by_batch = [
        measure(dataclasses.replace(step, batch=batch)) for step in steps.values() for batch in config.batches
    ]
    largest = [
        _largest(config, steps[e], _of(by_batch, e), measure) for e in config.executions if config.memory
    ]
    return MemoryGrowth(
        model=config.model,
        batch=config.step.batch,
        sides=config.step.sides,
        by_depth=tuple(by_depth),
        by_batch=tuple(by_batch),
        growth=tuple(_growth(execution, _of(by_depth, execution)) for execution in config.executions),
        largest=tuple(largest),
        failures=tuple(_failure(step, row) for step, row in measured.items() if "failed" in row),
        memory=config.memory,
    )


def measurements(config: MemoryConfig) -> int:
    """How many processes `memory_growth` starts at most."""
    return len(config.executions) * (
        2 * len(config.scales) + len(config.batches) + (_TRIES if config.memory else 0)
    )


def at_scale(network: NetworkConfig, scale: float) -> NetworkConfig:
    """The same network with a share of the layers in every dense block, at least one."""
    assert isinstance(network, DenseNetConfig)
    layers = tuple(max(1, round(scale * count)) for count in network.block_layers)
    return dataclasses.replace(network, block_layers=layers)


def _row(model: str, step: StepConfig) -> Row:
    network = step.network
    assert isinstance(network, DenseNetConfig)
    facts = layer_table(model, network, step.sides)
    activations = step.batch * facts.total(_STORED[step.execution])
    row: Row = {
        "execution": step.execution,
        "depth": network.depth,
        "layers": sum(network.block_layers),
        "batch": step.batch,
        "predicted_bytes": activations + _BYTES_OF_A_WEIGHT * facts.total("parameters"),
    }
    if step.precision != "float32":
        # Under autocast some activations have half the size, others not.
        row["predicted_bytes"] = None
    memory = measured_memory(step)
    if isinstance(memory, JobFailure):
        return {**row, "failed": memory.reason}
    return {**row, "measured_bytes": memory.in_use_bytes}


def _of(rows: Sequence[Row], execution: Execution) -> list[Row]:
    return [row for row in rows if row["execution"] == execution]


def _image_row(half: Row, whole: Row) -> Row:
    """Memory of an image, from two batches."""
    images = whole["batch"] - half["batch"]

    def difference(name: str) -> float | None:
        low, high = half.get(name), whole.get(name)
        return None if low is None or high is None else (high - low) / images

    return {
        **{name: whole[name] for name in ("execution", "depth", "layers")},
        "image_bytes": difference("measured_bytes"),
        "predicted_image_bytes": difference("predicted_bytes"),
    }


def _failure(step: StepConfig, row: Row) -> str:
    return f"{step.execution}, depth {step.network.depth}, batch {step.batch} failed: {row['failed']}"


def _growth(execution: Execution, rows: Sequence[Row]) -> Row:
    points = [
        (math.log(row["layers"]), math.log(row["image_bytes"]))
        for row in rows
        if row["image_bytes"] is not None and row["image_bytes"] > 0
    ]
    several = len({x for x, _ in points}) > 1
    last = rows[-1]
    measured, predicted = last["image_bytes"], last["predicted_image_bytes"]
    return {
        "execution": execution,
        "exponent": statistics.linear_regression(*zip(*points, strict=True)).slope if several else None,
        "of_prediction": measured / predicted if measured is not None and predicted else None,
    }


def _largest(
    config: MemoryConfig, step: StepConfig, rows: Sequence[Row], measure: Callable[[StepConfig], Row]
) -> Row:
    """The largest batch of an execution that fits, by the line through what was measured, then tried out."""
    nothing: Row = {"execution": step.execution, "batch": None, "bytes": None}
    known = [row for row in rows if row.get("measured_bytes") is not None]
    if len(known) < 2:
        return {**nothing, "known_by": "two measured batches are needed"}
    line = statistics.linear_regression([r["batch"] for r in known], [r["measured_bytes"] for r in known])
    if line.slope <= 0:
        return {**nothing, "known_by": "memory did not grow with the batch; measure larger ones"}
    batch = math.floor((config.memory - line.intercept) / line.slope)
    # A GPU refuses what it has not; of a system's memory the process that asks too much may be another's.
    available = None if step.device.startswith("cuda") else available_memory()
    for _ in range(_TRIES):
        if batch < 1:
            return {**nothing, "batch": 0, "known_by": "not even one image fits"}
        by_line = {**nothing, "batch": batch, "bytes": round(line.intercept + line.slope * batch)}
        if available is not None and config.memory > _SAFE_SHARE * available:
            return {**by_line, "known_by": "the line, this machine has less"}
        row = measure(dataclasses.replace(step, batch=batch))
        if "failed" in row:
            return {**by_line, "known_by": f"the line, failed: {row['failed']}"}
        if row["measured_bytes"] <= config.memory:
            return {**by_line, "bytes": row["measured_bytes"], "known_by": "measured"}
        batch = min(batch - 1, math.floor(batch * config.memory / row["measured_bytes"]))
    return {**nothing, "batch": batch, "known_by": f"the line, after {_TRIES} that did not fit"}
