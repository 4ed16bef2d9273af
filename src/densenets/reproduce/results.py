"""Results of the runs: a row a network and column. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densenets.analysis.efficiency.compared_network import ComparedNetwork
from densenets.analysis.learning_curves import epochs_of, mean_errors
from densenets.profiling.measured_step import MeasuredStep, step_figures
from densenets.records import CurvePoint, RunResult, read_metrics, read_result
from densenets.reproduce.plan import PlannedRun, by_recipe, cost_of
from densenets.subprocess_jobs import JobFailure


@dataclass(frozen=True, kw_only=True)
class ResultRow(ComparedNetwork):
    """A network in a column of its table.

    Attributes:
        column: of the table.
        failed: reasons of the runs that failed, by seed.
    """

    column: str
    failed: Mapping[int, str]

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return {
            "network": self.network,
            "series": self.series,
            "recipe": self.recipe,
            "column": self.column,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "paper_error": self.paper_error,
            "split": self.split,
            "errors": self.errors,
            "mean_error": self.mean_error,
            "deviation": self.deviation,
            "seeds": len(self.results),
            "failed": {str(seed): reason for seed, reason in self.failed.items()},
            "training_seconds": self.training_seconds,
            "forward_ms": self.step.forward_ms,
            "backward_ms": self.step.backward_ms,
            "step_ms": self.step.step_ms,
            "memory_bytes": self.step.memory_bytes,
            "batch": self.batch,
            "step_failed": self.step.failed,
            "curves": [errors.to_dict() for errors in self.curves],
        }


def result_rows(
    runs: Sequence[PlannedRun], costs: Mapping[str, MeasuredStep | JobFailure]
) -> list[ResultRow]:
    """A row for every network in every column of its table.

    Args:
        runs: planned, done or failed.
        costs: a training step of each network, by the name of its recipe.
    """
    return [
        _row(same, column, costs.get(recipe))
        for recipe, same in by_recipe(runs).items()
        for column in same[0].entry.columns
    ]


def _row(runs: Sequence[PlannedRun], column: str, cost: MeasuredStep | JobFailure | None) -> ResultRow:
    entry = runs[0].entry
    arithmetic = cost_of(runs[0].recipe)
    epochs = [epochs_of(read_metrics(run.folder / "metrics.jsonl", CurvePoint)) for run in runs]
    return ResultRow(
        network=entry.network,
        series=entry.series,
        recipe=entry.base,
        column=column,
        results=tuple(result for run in runs if (result := _result(run, column)) is not None),
        failed={run.seed: run.failure for run in runs if run.state == "failed"},
        paper_error=entry.published.get(column),
        parameters=arithmetic.parameters,
        multiply_adds=arithmetic.multiply_adds,
        step=step_figures(cost),
        batch=cost.batch if isinstance(cost, MeasuredStep) else None,
        curves=mean_errors(epochs) if entry.curves else (),
    )


def _result(run: PlannedRun, column: str) -> RunResult | None:
    is_first = column == run.entry.columns[0]
    return read_result((run.folder if is_first else run.ten_crop_folder) / "evaluation.json")
