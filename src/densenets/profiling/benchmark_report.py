"""A benchmark's results: medians of times, shares of the machine's peak, ratios to torchvision's best.

Needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densenets.models.layer_rows import TRAINING_COST
from densenets.models.layer_table import layer_table
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.variants import Variant
from densenets.profiling.worker_jobs import MachinePeaks
from densenets.subprocess_jobs import JobFailure


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time of a variant's steps.

    Attributes:
        median_seconds: of a step.
        min_seconds: of the fastest.
        max_seconds: of the slowest.
        gigaflops: 10^9 additions and multiplications a second at the median.
        share_of_peak: of those that the machine can do; None if its peak is not known.
    """

    median_seconds: float
    min_seconds: float
    max_seconds: float
    gigaflops: float
    share_of_peak: float | None


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """A variant by others of its precision: torchvision's, or where none was measured, our reference.

    Attributes:
        fastest: name of the fastest of the others; None if there is none.
        times_faster: the fastest's median by the variant's own.
        leanest_peak: name of the one with the lowest peak as the system sees it.
        peak_of_fastest: the variant's peak by that of the fastest.
        peak_of_leanest: by that of the one with the lowest.
        leanest_in_use: name of the one with the least memory in use.
        in_use_of_fastest: the variant's memory in use by that of the fastest.
        in_use_of_leanest: by that of the one with the least.
    """

    fastest: str | None
    times_faster: float | None
    leanest_peak: str | None
    peak_of_fastest: float | None
    peak_of_leanest: float | None
    leanest_in_use: str | None
    in_use_of_fastest: float | None
    in_use_of_leanest: float | None


@dataclass(frozen=True, kw_only=True)
class MeasuredVariant:
    """Time and memory of one variant.

    Attributes:
        variant: what was measured.
        seconds: of each step that counts, of all rounds.
        warmup_seconds: of the steps before them.
        peak_bytes: at the peak as the system sees it, the highest of all rounds; None where it does not tell.
        memory_measured_by: VmHWM, ru_maxrss (a lower bound), allocator or nothing.
        loss: of the first step; None if not a number.
        kept_freed_memory: whether the process kept what it freed.
        in_use_bytes: at the peak, without what the allocator holds in reserve; None where that is not known.
        in_use_failure: why the process failed that measured it; None if it did not.
        timing: None where only memory was asked for.
    """

    variant: Variant
    seconds: tuple[float, ...]
    warmup_seconds: tuple[float, ...]
    peak_bytes: int | None
    memory_measured_by: str
    loss: float | None
    kept_freed_memory: bool
    in_use_bytes: int | None
    in_use_failure: JobFailure | None = None
    timing: Timing | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them, without timing and failure where there are none."""
        return {
            **_identity(self.variant),
            "seconds": list(self.seconds),
            "warmup_seconds": list(self.warmup_seconds),
            "peak_bytes": self.peak_bytes,
            "memory_measured_by": self.memory_measured_by,
            "loss": self.loss,
            "kept_freed_memory": self.kept_freed_memory,
            "in_use_bytes": self.in_use_bytes,
            **({"in_use_failed": self.in_use_failure.to_dict()} if self.in_use_failure else {}),
            **(dataclasses.asdict(self.timing) if self.timing else {}),
        }


@dataclass(frozen=True, kw_only=True)
class FailedVariant:
    """A variant whose process failed.

    Attributes:
        variant: what was to be measured.
        failure: why it was not.
    """

    variant: Variant
    failure: JobFailure

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {**_identity(self.variant), **self.failure.to_dict()}


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """All variants of a network on one batch.

    Attributes:
        config: what was measured.
        step_flops: additions and multiplications of a step.
        notes: what a reader must know of the ratios.
        rows: one a variant.
    """

    config: BenchmarkConfig
    step_flops: int
    notes: tuple[str, ...]
    rows: tuple[MeasuredVariant | FailedVariant, ...]

    @property
    def measured(self) -> list[MeasuredVariant]:
        """The rows of variants that did not fail."""
        return [row for row in self.rows if isinstance(row, MeasuredVariant)]

    def ratios(self, row: MeasuredVariant) -> Ratios:
        """A row by others of its precision."""
        return ratios(row, self.measured)

    def to_dict(self) -> dict[str, Any]:
        """The config with everything that was measured, as JSON can hold it."""
        return {
            **self.config.to_dict(),
            "step_flops": self.step_flops,
            "notes": list(self.notes),
            "rows": [
                row.to_dict()
                | (dataclasses.asdict(self.ratios(row)) if isinstance(row, MeasuredVariant) else {})
                for row in self.rows
            ],
        }


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """A benchmark with its surroundings.

    Attributes:
        environment: versions, device, date and command.
        machine: threads and peaks, or why they are not known.
        cases: by name.
    """

    environment: Mapping[str, Any]
    machine: MachinePeaks | JobFailure
    cases: Mapping[str, BenchmarkCase]

    @property
    def failure(self) -> str:
        """The first failure where no variant of any case was measured, in one line; empty otherwise."""
        rows = [row for case in self.cases.values() for row in case.rows]
        failed = [row for row in rows if isinstance(row, FailedVariant)]
        if len(failed) < len(rows):
            return ""
        return f"every variant failed; {failed[0].variant.name}: {failed[0].failure.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            **self.environment,
            "peaks": {},
            **self.machine.to_dict(),
            "cases": {name: case.to_dict() for name, case in self.cases.items()},
        }


@dataclass(frozen=True, kw_only=True)
class DepthLine:
    """Memory of one variant against the depth of the network.

    Attributes:
        variant: its name.
        in_use_bytes: by depth; None where it failed.
        residual: distance from the straight line that fits best, as a share of the value; None without three.
        activations_residual: the same without weights and their gradients.
    """

    variant: str
    in_use_bytes: dict[int, int | None]
    residual: float | None
    activations_residual: float | None


def step_flops(config: BenchmarkConfig) -> int:
    """Additions and multiplications of a step by the paper's arithmetic; what is recomputed is not in it."""
    facts = layer_table(config.model, config.network, config.sides)
    passes = TRAINING_COST if config.mode == "train" else 1
    return 2 * facts.total("multiply_adds") * config.batch * passes


def timing(seconds: Sequence[float], flops: int, peak: float | None) -> Timing:
    """Median, range and speed of steps.

    Args:
        seconds: of each step.
        flops: of a step.
        peak: of the machine in 10^9 flops a second; None if it is not known.
    """
    median = statistics.median(seconds)
    gigaflops = flops / median / 1e9
    return Timing(
        median_seconds=median,
        min_seconds=min(seconds),
        max_seconds=max(seconds),
        gigaflops=gigaflops,
        share_of_peak=gigaflops / peak if peak else None,
    )


def ratios(row: MeasuredVariant, rows: Sequence[MeasuredVariant]) -> Ratios:
    """A variant by the best of torchvision's variants of its precision, or without these by our reference.

    Args:
        row: of the variant.
        rows: of all variants of the case.
    """
    references = _references(rows, row)
    fastest = _least(references, _median)
    leanest_peak, leanest_in_use = _least(references, _peak), _least(references, _in_use)
    return Ratios(
        fastest=_name(fastest),
        times_faster=_ratio(fastest, row, _median),
        leanest_peak=_name(leanest_peak),
        peak_of_fastest=_ratio(row, fastest, _peak),
        peak_of_leanest=_ratio(row, leanest_peak, _peak),
        leanest_in_use=_name(leanest_in_use),
        in_use_of_fastest=_ratio(row, fastest, _in_use),
        in_use_of_leanest=_ratio(row, leanest_in_use, _in_use),
    )


def line_residual(x: Sequence[float], y: Sequence[float]) -> float:
    """The largest distance of y from the straight line that fits best, as a share of the y there."""
    slope, intercept = statistics.linear_regression(x, y)
    return max(abs(b - slope * a - intercept) / b for a, b in zip(x, y, strict=True))


def _identity(variant: Variant) -> dict[str, Any]:
    return {"variant": variant.name, "base": variant.base, "precision": variant.precision}


def _references(rows: Sequence[MeasuredVariant], row: MeasuredVariant) -> list[MeasuredVariant]:
    alike = [r for r in rows if r.variant.precision == row.variant.precision]
    torchvision = [r for r in alike if r.variant.is_torchvision]
    return torchvision or [r for r in alike if r.variant.base == "reference"]


_Quantity = Callable[[MeasuredVariant], float | None]


def _median(row: MeasuredVariant) -> float | None:
    return row.timing.median_seconds if row.timing else None


def _peak(row: MeasuredVariant) -> float | None:
    return row.peak_bytes


def _in_use(row: MeasuredVariant) -> float | None:
    return row.in_use_bytes


def _name(row: MeasuredVariant | None) -> str | None:
    return row.variant.name if row else None


def _least(rows: Sequence[MeasuredVariant], quantity: _Quantity) -> MeasuredVariant | None:
    known = [(value, number) for number, row in enumerate(rows) if (value := quantity(row)) is not None]
    return rows[min(known)[1]] if known else None


def _ratio(above: MeasuredVariant | None, below: MeasuredVariant | None, quantity: _Quantity) -> float | None:
    if above is None or below is None:
        return None
    numerator, denominator = quantity(above), quantity(below)
    return numerator / denominator if numerator is not None and denominator else None
