"""Medians of measured times, shares of the machine's peak, and ratios to the best of torchvision.

Rows are plain data, as JSON holds them. Needs no PyTorch.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from densenets.models.layer_rows import TRAINING_COST
from densenets.models.layer_table import layer_table
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.variants import Variant

Row = dict[str, Any]


def step_flops(config: BenchmarkConfig) -> int:
    """Additions and multiplications of a step by the paper's arithmetic; what is recomputed is not in it."""
    facts = layer_table(config.model, config.network, config.sides)
    passes = TRAINING_COST if config.mode == "train" else 1
    return 2 * facts.total("multiply_adds") * config.batch * passes


def timing(seconds: Sequence[float], flops: int, peak: float | None) -> Row:
    """A row's figures of time.

    Args:
        seconds: of each step.
        flops: of a step.
        peak: of the machine in 10^9 flops a second; None if it is not known.
    """
    median = statistics.median(seconds)
    gigaflops = flops / median / 1e9
    return {
        "median_seconds": median,
        "min_seconds": min(seconds),
        "max_seconds": max(seconds),
        "gigaflops": gigaflops,
        "share_of_peak": gigaflops / peak if peak else None,
    }


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows with their ratios to others of the same precision.

    The others are torchvision's variants, or where none of them was measured, our reference. Of these one is
    the fastest, one has the lowest peak, and one has the least memory in use.

    Returns:
        rows with the names fastest, leanest_peak and leanest_in_use; times_faster (the fastest's median by
        the row's own); peak_of_fastest, peak_of_leanest, in_use_of_fastest and in_use_of_leanest (the row's
        memory by theirs). None where there is none; a row that failed stays as it is.
    """
    return [row if "failed" in row else row | _ratios(row, _references(rows, row)) for row in rows]


def all_failed(cases: dict[str, Row]) -> str:
    """The first failure where no variant of any case was measured, in one line; empty otherwise."""
    rows = [row for case in cases.values() for row in case["rows"]]
    if any("failed" not in row for row in rows):
        return ""
    return f"every variant failed; {rows[0]['variant']}: {rows[0]['failed']}"


def line_residual(x: Sequence[float], y: Sequence[float]) -> float:
    """The largest distance of y from the straight line that fits best, as a share of the y there."""
    slope, intercept = statistics.linear_regression(x, y)
    return max(abs(b - slope * a - intercept) / b for a, b in zip(x, y, strict=True))


def _references(rows: Sequence[Row], row: Row) -> list[Row]:
    measured = [r for r in rows if "failed" not in r and r["precision"] == row["precision"]]
    torchvision = [r for r in measured if _variant(r).is_torchvision]
    return torchvision or [r for r in measured if _variant(r).base == "reference"]


def _variant(row: Row) -> Variant:
    return Variant(base=row["base"], precision=row["precision"])


def _ratios(row: Row, references: list[Row]) -> Row:
    fastest = _least(references, "median_seconds")
    ratios = {
        "fastest": fastest and fastest["variant"],
        "times_faster": _ratio(fastest, row, "median_seconds"),
    }
    for memory in ("peak", "in_use"):
        quantity = f"{memory}_bytes"
        leanest = _least(references, quantity)
        ratios |= {
            f"leanest_{memory}": leanest and leanest["variant"],
            f"{memory}_of_fastest": _ratio(row, fastest, quantity),
            f"{memory}_of_leanest": _ratio(row, leanest, quantity),
        }
    return ratios


def _least(rows: list[Row], quantity: str) -> Row | None:
    known = [row for row in rows if row.get(quantity) is not None]
    return min(known, key=lambda row: row[quantity], default=None)


def _ratio(above: Row | None, below: Row | None, quantity: str) -> float | None:
    if above is None or below is None or not below.get(quantity) or above.get(quantity) is None:
        return None
    return above[quantity] / below[quantity]
