"""Finished runs side by side: error against what the networks and their training cost (Figs. 3 and 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenets.analysis.efficiency.compared_network import ComparedNetwork
from densenets.analysis.learning_curves import mean_errors
from densenets.analysis.run_facts import RunFacts, read_run
from densenets.errors import InputError
from densenets.models.layer_table import layer_table
from densenets.profiling.measured_step import MeasuredStep, step_figures
from densenets.subprocess_jobs import JobFailure
from densenets.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class EfficiencyRow(ComparedNetwork):
    """Finished runs by one recipe.

    Attributes:
        folders: of the runs, one a seed.
    """

    folders: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return {
            "network": self.network,
            "series": self.series,
            "recipe": self.recipe,
            "split": self.split,
            "runs": [str(folder) for folder in self.folders],
            "errors": self.errors,
            "mean_error": self.mean_error,
            "deviation": self.deviation,
            "paper_error": self.paper_error,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "training_seconds": self.training_seconds,
            "forward_ms": self.step.forward_ms,
            "backward_ms": self.step.backward_ms,
            "step_ms": self.step.step_ms,
            "memory_bytes": self.step.memory_bytes,
            "step_failed": self.step.failed,
            "batch": self.batch,
            "curves": [errors.to_dict() for errors in self.curves],
        }


def efficiency_rows(
    folders: Sequence[Path], *, measure: bool, announce: Callable[[str], None]
) -> list[EfficiencyRow]:
    """A row for every recipe among the runs; runs that differ in their seed alone are one row.

    Args:
        folders: finished runs, all evaluated on the same data.
        measure: measure a training step of each recipe, if its run's folder does not hold one already; it is
            kept there.
        announce: told of each measurement before it is made.

    Raises:
        InputError: a run is not finished, or the runs are of different data.
    """
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.evaluation is None:
            raise InputError(f"the run {run.folder} has not come to its end; go on with --resume")
    data = sorted({_data(run) for run in runs})
    if len(data) > 1:
        raise InputError(
            f"the runs are of {' and '.join(data)}: errors on different images cannot be compared; name runs "
            "of one of them"
        )
    same: dict[str, list[RunFacts]] = {}
    for run in runs:
        same.setdefault(repr(_without_seed(run.recipe)), []).append(run)
    return [
        _row(group, group[0].cost(group[0].recipe.model.execution, measure=measure, announce=announce))
        for group in same.values()
    ]


def _data(run: RunFacts) -> str:
    data = run.recipe.data
    place = data.name if data.in_memory else f"{data.name} {data.root}"
    if run.reported == "test":
        return place
    held_out = f" ({data.held_out:g} held out by seed {data.split_seed})" if data.held_out else ""
    return f"{place}'s {run.reported} images{held_out}"


def _without_seed(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe, name="", training=dataclasses.replace(recipe.training, seed=0, tensorboard=False)
    )


def _row(runs: Sequence[RunFacts], cost: MeasuredStep | JobFailure | None) -> EfficiencyRow:
    first = runs[0]
    facts = layer_table(first.recipe.name, first.description.config, first.step.sides)
    return EfficiencyRow(
        network=first.network,
        series=first.series,
        recipe=first.recipe.name,
        folders=tuple(run.folder for run in runs),
        results=tuple(run.evaluation for run in runs if run.evaluation is not None),
        paper_error=None,
        parameters=facts.total("parameters"),
        multiply_adds=facts.total("multiply_adds"),
        step=step_figures(cost),
        batch=first.recipe.training.batch_size,
        curves=mean_errors(run.epochs for run in runs),
    )
