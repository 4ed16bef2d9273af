"""Errors by epoch, over runs that belong together. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def watched_split(metrics: Sequence[dict[str, Any]]) -> str:
    """Which images a run was watched on: "validation", or "test" where there were no validation images."""
    return "test" if any("test_top1_error" in line for line in metrics) else "validation"


def watched_value(line: Mapping[str, Any], quantity: str) -> Any:
    """Of a run's epoch, a quantity on the images it was watched on: top1_error, or loss (None if NaN)."""
    return line[f"{'test' if f'test_{quantity}' in line else 'validation'}_{quantity}"]


def reported_split(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the errors of rows are errors of: "test", unless the rows say "validation"."""
    return " or ".join(sorted({row.get("split", "test") for row in rows})) or "test"


def error_curves(metrics: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Errors by epoch of runs that belong together: the mean over those that got there, in percent.

    Args:
        metrics: of each run, the lines of its metrics.jsonl.
    """
    epochs: dict[int, list[dict[str, Any]]] = {}
    for lines in metrics:
        for line in lines:
            if line["kind"] == "epoch":
                epochs.setdefault(line["epoch"], []).append(line)
    return [
        {
            "epoch": epoch,
            "train_error": statistics.fmean(line["train_top1_error"] for line in lines),
            "watched_error": statistics.fmean(watched_value(line, "top1_error") for line in lines),
            "seeds": len(lines),
        }
        for epoch, lines in sorted(epochs.items())
    ]
