"""Results of the runs: a row a network and column. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from densenets.analysis.learning_curves import epochs_of, mean_errors
from densenets.profiling.measured_step import MeasuredStep, step_figures
from densenets.records import CurvePoint, read_metrics, read_result
from densenets.reproduce.plan import PlannedRun, cost_of
from densenets.subprocess_jobs import JobFailure

Row = dict[str, Any]


def result_rows(runs: Sequence[PlannedRun], costs: Mapping[str, MeasuredStep | JobFailure]) -> list[Row]:
    """A row for every network in every column of its table.

    Returns:
        network, series, recipe and column; split, what the errors are of (test or validation);
        the paper's error and ours of each seed (errors), their mean and
        standard deviation (None with fewer than two), in percent; seeds, how many are done, and failed,
        reasons by seed; parameters and multiply_adds; what was measured of a step, per image where it is a
        time; training_seconds, the mean of the runs'; curves, by epoch, where the figure shows them.
    """
    by_recipe: dict[str, list[PlannedRun]] = {}
    for run in runs:
        by_recipe.setdefault(run.entry.base, []).append(run)
    return [
        _row(same, column, costs.get(recipe))
        for recipe, same in by_recipe.items()
        for column in same[0].entry.columns
    ]


def _row(runs: Sequence[PlannedRun], column: str, cost: MeasuredStep | JobFailure | None) -> Row:
    entry = runs[0].entry
    arithmetic = cost_of(runs[0].recipe)
    evaluations = [result for run in runs if (result := _evaluation(run, column)) is not None]
    errors = [result["top1_error"] for result in evaluations]
    epochs = [epochs_of(read_metrics(run.folder / "metrics.jsonl", CurvePoint)) for run in runs]
    seconds = [result["training_seconds"] for result in evaluations if "training_seconds" in result]
    return {
        "network": entry.network,
        "series": entry.series,
        "recipe": entry.base,
        "column": column,
        "parameters": arithmetic.parameters,
        "multiply_adds": arithmetic.multiply_adds,
        "paper_error": entry.published.get(column),
        "split": next((result["split"] for result in evaluations if result.get("split")), "test"),
        "errors": errors,
        "mean_error": statistics.fmean(errors) if errors else None,
        "deviation": statistics.stdev(errors) if len(errors) > 1 else None,
        "seeds": len(errors),
        "failed": {str(run.seed): run.failure for run in runs if run.state == "failed"},
        "training_seconds": statistics.fmean(seconds) if seconds else None,
        **_measured(cost),
        "curves": [point.to_dict() for point in mean_errors(epochs)] if entry.curves else [],
    }


def _evaluation(run: PlannedRun, column: str) -> dict[str, Any] | None:
    is_first = column == run.entry.columns[0]
    file = (run.folder if is_first else run.ten_crop_folder) / "evaluation.json"
    return read_result(file)


def _measured(cost: MeasuredStep | JobFailure | None) -> Row:
    """Of a training step: milliseconds an image, forward and backward apart, and bytes at the peak."""
    step = step_figures(cost)
    return {
        "forward_ms": step.forward_ms,
        "backward_ms": step.backward_ms,
        "step_ms": step.step_ms,
        "memory_bytes": step.memory_bytes,
        "batch": cost.batch if isinstance(cost, MeasuredStep) else None,
        "step_failed": step.failed,
    }
