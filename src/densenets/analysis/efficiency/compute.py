"""Finished runs side by side: error against what the networks and their training cost (Figs. 3 and 4)."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from densenets.analysis.learning_curves import mean_errors
from densenets.analysis.run_facts import RunFacts, read_run
from densenets.errors import InputError
from densenets.models.layer_table import layer_table
from densenets.profiling.measured_step import MeasuredStep, step_figures
from densenets.subprocess_jobs import JobFailure
from densenets.training.recipe import Recipe

Row = dict[str, Any]


def efficiency_rows(folders: Sequence[Path], *, measure: bool, announce: Callable[[str], None]) -> list[Row]:
    """A row for every recipe among the runs; runs that differ in their seed alone are one row.

    Args:
        folders: finished runs, all evaluated on the same data.
        measure: measure a training step of each recipe, if its run's folder does not hold one already; it is
            kept there.
        announce: told of each measurement before it is made.

    Returns:
        network, series (its kind), recipe, split (what the errors are of, test or validation), runs;
        errors of each seed, mean_error and deviation (None with
        fewer than two), in percent; parameters and multiply_adds (of a forward pass of one image);
        training_seconds, the mean of the runs', None where none tells; forward_ms, backward_ms, step_ms an
        image and memory_bytes of a step, None where none was measured; step_failed; batch; curves, by epoch;
        paper_error, None: runs of anybody's own have none.

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


def _row(runs: Sequence[RunFacts], cost: MeasuredStep | JobFailure | None) -> Row:
    first, step = runs[0], step_figures(cost)
    facts = layer_table(first.recipe.name, first.description.config, first.step.sides)
    evaluations = [run.evaluation for run in runs if run.evaluation is not None]
    errors = [result["top1_error"] for result in evaluations]
    # An evaluation that was made anew, with --out, does not know how long training took.
    seconds = [result["training_seconds"] for result in evaluations if "training_seconds" in result]
    return {
        "network": first.network,
        "series": first.series,
        "recipe": first.recipe.name,
        "split": first.reported,
        "runs": [str(run.folder) for run in runs],
        "errors": errors,
        "mean_error": statistics.fmean(errors),
        "deviation": statistics.stdev(errors) if len(errors) > 1 else None,
        "paper_error": None,
        "parameters": facts.total("parameters"),
        "multiply_adds": facts.total("multiply_adds"),
        "training_seconds": statistics.fmean(seconds) if seconds else None,
        "forward_ms": step.forward_ms,
        "backward_ms": step.backward_ms,
        "step_ms": step.step_ms,
        "memory_bytes": step.memory_bytes,
        "step_failed": step.failed,
        "batch": first.recipe.training.batch_size,
        "curves": [point.to_dict() for point in mean_errors(run.epochs for run in runs)],
    }
