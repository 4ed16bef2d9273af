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

from densenets.analysis.memory.memory_config import MemoryConfig
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_rows import STORED_BYTES
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import measured_memory
from densenets.profiling.peak_memory import available_memory
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import StepMemory
from densenets.subprocess_jobs import JobFailure

_BYTES_OF_A_WEIGHT = 3 * 4  # the weight, its gradient and its momentum, float32
_SAFE_SHARE = 0.9  # of the memory that there is
_TRIES = 3  # at a largest batch that does not fit after all


@dataclass(frozen=True, kw_only=True)
class BatchMemory:
    """Peak memory of a training step.

    Attributes:
        execution: of the dense blocks.
        depth: of the network.
        layers: dense layers of the network.
        batch: images of the step.
        predicted_bytes: what `summary` counts, with weights, gradients and momentum; None where an image's
            memory depends on autocast.
        measured_bytes: in use at the peak; None where that is not known.
        failed: why it could not be measured; empty if it was.
    """

    execution: Execution
    depth: int
    layers: int
    batch: int
    predicted_bytes: int | None
    measured_bytes: int | None
    failed: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them: what was measured, or why it failed."""
        fields = dataclasses.asdict(self)
        del fields["measured_bytes" if self.failed else "failed"]
        return fields


@dataclass(frozen=True, kw_only=True)
class ImageMemory:
    """Memory of one image's activations.

    Attributes:
        execution: of the dense blocks.
        depth: of the network.
        layers: dense layers of the network.
        image_bytes: measured; None where a measurement failed.
        predicted_image_bytes: what `summary` counts; None where it does not.
    """

    execution: Execution
    depth: int
    layers: int
    image_bytes: float | None
    predicted_image_bytes: float | None


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of an image's memory with depth; None without measurements.

    Attributes:
        execution: of the dense blocks.
        exponent: the power of the number of dense layers with which it grows (1 linear, 2 quadratic), fitted
            to the logarithms.
        of_prediction: measured by predicted bytes at the largest depth.
    """

    execution: Execution
    exponent: float | None
    of_prediction: float | None


@dataclass(frozen=True, kw_only=True)
class LargestBatch:
    """The largest batch that fits in the memory that was asked for.

    Attributes:
        execution: of the dense blocks.
        batch: None where it is not known.
        bytes: that it takes; None where that is not known.
        known_by: "measured", or how else it is known or why not.
    """

    execution: Execution
    batch: int | None
    bytes: int | None
    known_by: str


@dataclass(frozen=True, kw_only=True)
class MemoryGrowth:
    """Memory of a network at all depths and batches in all executions.

    Attributes:
        model: as the network is called.
        batch: the larger of the two from which the rows by depth follow.
        sides: of an image, in pixels.
        by_depth: a row an execution and depth.
        by_batch: a row an execution and batch of the whole network.
        growth: a row an execution.
        largest: a row an execution, where memory was asked for.
        failures: what could not be measured, a line each.
        memory: bytes asked for.
    """

    model: str
    batch: int
    sides: tuple[int, ...]
    by_depth: tuple[ImageMemory, ...]
    by_batch: tuple[BatchMemory, ...]
    growth: tuple[Growth, ...]
    largest: tuple[LargestBatch, ...]
    failures: tuple[str, ...]
    memory: int

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {**dataclasses.asdict(self), "by_batch": [row.to_dict() for row in self.by_batch]}

    def rows(self) -> list[dict[str, Any]]:
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
        return [
            {name: getattr(row, name, None) for name in names} for row in (*self.by_depth, *self.by_batch)
        ]


def memory_growth(config: MemoryConfig, announce: Callable[[str], None]) -> MemoryGrowth:
    """Measure a network at all depths and batches in all executions.

    Args:
        config: what is measured.
        announce: told of each measurement before it is made; `measurements` says how many there are at most.

    Raises:
        InputError: the system does not tell how much memory is in use.
    """
    measured: dict[StepConfig, BatchMemory] = {}

    def measure(step: StepConfig) -> BatchMemory:
        if step not in measured:
            announce(f"{step.execution}, depth {step.network.depth}, batch {step.batch}")
            measured[step] = _batch_memory(config.model, step)
        return measured[step]

    whole = config.step
    steps = {execution: dataclasses.replace(whole, execution=execution) for execution in config.executions}
    networks = [at_scale(whole.network, scale) for scale in config.scales]
    halves = (whole.batch // 2, whole.batch)
    by_depth = [
        _image_memory(*(measure(dataclasses.replace(step, network=network, batch=batch)) for batch in halves))
        for step in steps.values()
        for network in networks
    ]
    by_batch = [
        measure(dataclasses.replace(step, batch=batch))
        for step in steps.values()
        for batch in config.batch_sizes
    ]
    limit = config.memory_bytes
    largest = [
        _largest(limit, step, [row for row in by_batch if row.execution == execution], measure)
        for execution, step in steps.items()
        if limit
    ]
    return MemoryGrowth(
        model=config.model,
        batch=whole.batch,
        sides=whole.sides,
        by_depth=tuple(by_depth),
        by_batch=tuple(by_batch),
        growth=tuple(
            _growth(execution, [row for row in by_depth if row.execution == execution]) for execution in steps
        ),
        largest=tuple(largest),
        failures=tuple(_failure(row) for row in measured.values() if row.failed),
        memory=limit,
    )


def measurements(config: MemoryConfig) -> int:
    """Number of processes that `memory_growth` starts at most."""
    return len(config.executions) * (
        2 * len(config.scales) + len(config.batch_sizes) + (_TRIES if config.memory_bytes else 0)
    )


def at_scale(network: NetworkConfig, scale: float) -> NetworkConfig:
    """The same network with a share of the layers in every dense block, at least one."""
    assert isinstance(network, DenseNetConfig)
    layers = tuple(max(1, round(scale * count)) for count in network.block_layers)
    return dataclasses.replace(network, block_layers=layers)


def _batch_memory(model: str, step: StepConfig) -> BatchMemory:
    network = step.network
    assert isinstance(network, DenseNetConfig)
    facts = layer_table(model, network, step.sides)
    activations = step.batch * facts.total(STORED_BYTES[step.execution])
    predicted = activations + _BYTES_OF_A_WEIGHT * facts.total("parameters")
    memory = measured_memory(step)
    if isinstance(memory, StepMemory) and memory.in_use_bytes is None:
        raise InputError(
            "memory in use cannot be measured here: it takes a GPU, or Linux with glibc and a high-water "
            "mark that can be reset"
        )
    return BatchMemory(
        execution=step.execution,
        depth=network.depth,
        layers=sum(network.block_layers),
        batch=step.batch,
        # Under autocast some activations have half the size, others not.
        predicted_bytes=predicted if step.precision == "float32" else None,
        measured_bytes=None if isinstance(memory, JobFailure) else memory.in_use_bytes,
        failed=memory.reason if isinstance(memory, JobFailure) else "",
    )


def _image_memory(half: BatchMemory, whole: BatchMemory) -> ImageMemory:
    """Memory of an image, from two batches."""
    images = whole.batch - half.batch

    def of_an_image(low: int | None, high: int | None) -> float | None:
        return None if low is None or high is None else (high - low) / images

    return ImageMemory(
        execution=whole.execution,
        depth=whole.depth,
        layers=whole.layers,
        image_bytes=of_an_image(half.measured_bytes, whole.measured_bytes),
        predicted_image_bytes=of_an_image(half.predicted_bytes, whole.predicted_bytes),
    )


def _failure(row: BatchMemory) -> str:
    return f"{row.execution}, depth {row.depth}, batch {row.batch} failed: {row.failed}"


def _growth(execution: Execution, rows: Sequence[ImageMemory]) -> Growth:
    points = [
        (math.log(row.layers), math.log(row.image_bytes))
        for row in rows
        if row.image_bytes is not None and row.image_bytes > 0
    ]
    several = len({x for x, _ in points}) > 1
    measured, predicted = rows[-1].image_bytes, rows[-1].predicted_image_bytes
    return Growth(
        execution=execution,
        exponent=statistics.linear_regression(*zip(*points, strict=True)).slope if several else None,
        of_prediction=measured / predicted if measured is not None and predicted else None,
    )


def _largest(
    memory: int, step: StepConfig, rows: Sequence[BatchMemory], measure: Callable[[StepConfig], BatchMemory]
) -> LargestBatch:
    """The largest batch of an execution that fits, by the line through what was measured, then tried out."""

    def known_by(reason: str, batch: int | None = None, taken: int | None = None) -> LargestBatch:
        return LargestBatch(execution=step.execution, batch=batch, bytes=taken, known_by=reason)

    known = {row.batch: row.measured_bytes for row in rows if row.measured_bytes is not None}
    if len(known) < 2:
        return known_by("two measured batches are needed")
    line = statistics.linear_regression(list(known), list(known.values()))
    if line.slope <= 0:
        return known_by("memory did not grow with the batch; measure larger ones")
    batch = math.floor((memory - line.intercept) / line.slope)
    # A GPU refuses what it has not; of a system's memory the process that asks too much may be another's.
    available = None if step.device.startswith("cuda") else available_memory()
    for _ in range(_TRIES):
        if batch < 1:
            return known_by("not even one image fits", 0)
        by_line = round(line.intercept + line.slope * batch)
        if available is not None and memory > _SAFE_SHARE * available:
            return known_by("the line, this machine has less", batch, by_line)
        row = measure(dataclasses.replace(step, batch=batch))
        if row.failed:
            return known_by(f"the line, failed: {row.failed}", batch, by_line)
        assert row.measured_bytes is not None
        if row.measured_bytes <= memory:
            return known_by("measured", batch, row.measured_bytes)
        batch = min(batch - 1, math.floor(batch * memory / row.measured_bytes))
    return known_by(f"the line, after {_TRIES} that did not fit", batch)
