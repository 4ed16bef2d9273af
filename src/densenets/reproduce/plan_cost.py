"""What runs cost: arithmetic at once, time and memory from a measured step. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from densenets.files import write_json
from densenets.profiling.measured_step import MeasuredStep, measured_step, read_measured_step
from densenets.profiling.step import StepConfig
from densenets.reproduce.plan import PlannedRun, cost_of, steps_of
from densenets.subprocess_jobs import JobFailure
from densenets.training.recipe import OptimizerRecipe, Recipe


def measured_costs(
    runs: Sequence[PlannedRun], folder: Path, announce: Callable[[str], None]
) -> dict[str, MeasuredStep | JobFailure]:
    """The measured step of every network of the runs, by the name of its recipe.

    What was measured before stands in the folder and is not measured again; recipes whose steps compute the
    same share a measurement.

    Args:
        runs: whose steps are measured.
        folder: where the measurements are kept.
        announce: told what is measured next.
    """
    costs: dict[str, MeasuredStep | JobFailure] = {}
    by_step: dict[str, MeasuredStep | JobFailure] = {}
    for run in runs:
        name, step = run.entry.base, _what_a_step_computes(run.recipe)
        if name in costs:
            continue
        file = folder / "costs" / f"{name}.json"
        known = read_measured_step(file)
        if known:
            by_step[step] = known
        elif step not in by_step:
            announce(f"measuring a step of {name}")
            by_step[step] = measured_step(StepConfig.of_recipe(run.recipe))
        costs[name] = cost = by_step[step]
        if isinstance(cost, MeasuredStep) and not known:
            write_json(file, cost.to_dict())
    return costs


def _what_a_step_computes(recipe: Recipe) -> str:
    """The same text for recipes whose steps cost the same."""
    step = StepConfig.of_recipe(recipe)
    # How far a step goes costs nothing.
    return repr(dataclasses.replace(step, optimizer=OptimizerRecipe(name=step.optimizer.name)))


def estimated_seconds(run: PlannedRun, costs: dict[str, MeasuredStep | JobFailure]) -> float | None:
    """Seconds of a run's training, evaluation not counted; None where no step could be measured."""
    step = costs.get(run.entry.base)
    return step.seconds * steps_of(run.recipe) / run.processes if isinstance(step, MeasuredStep) else None


def plan_rows(
    runs: Sequence[PlannedRun], costs: dict[str, MeasuredStep | JobFailure]
) -> list[dict[str, Any]]:
    """The plan, a row a network and column: what it costs, and how far its runs are."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        arithmetic, cost = cost_of(run.recipe), costs.get(run.entry.base)
        row = rows.setdefault(
            run.entry.base,
            {
                "recipe": run.entry.base,
                "network": run.entry.network,
                "columns": list(run.entry.columns),
                "parameters": arithmetic.parameters,
                "multiply_adds": arithmetic.multiply_adds,
                "epochs": run.recipe.training.epochs,
                "steps": steps_of(run.recipe),
                "step_seconds": cost.seconds if isinstance(cost, MeasuredStep) else None,
                "step_failed": cost.reason if isinstance(cost, JobFailure) else None,
                "runs": 0,
                "training_multiply_adds": 0,
                "seconds_left": 0.0,
                "states": {"new": 0, "cut": 0, "done": 0, "failed": 0},
            },
        )
        row["runs"] += 1
        row["states"][run.state] += 1
        row["training_multiply_adds"] += arithmetic.training_multiply_adds
        seconds = estimated_seconds(run, costs)
        if run.state != "done" and row["seconds_left"] is not None:
            row["seconds_left"] = None if seconds is None else row["seconds_left"] + seconds
    return list(rows.values())
