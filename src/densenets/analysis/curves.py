"""Errors by epoch, over runs that belong together. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


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
            "watched_error": statistics.fmean(line["validation_top1_error"] for line in lines),
            "seeds": len(lines),
        }
        for epoch, lines in sorted(epochs.items())
    ]
