"""Cost of the runs of a plan: by arithmetic, and by a measured step of each network. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from densenets.files import write_json
from densenets.profiling.measured_step import MeasuredStep, measured_step, read_measured_step
from densenets.profiling.step import StepConfig
from densenets.reproduce.plan import STATES, PlannedRun, State, by_recipe, cost_of, steps_of
from densenets.subprocess_jobs import JobFailure
from densenets.training.recipe import OptimizerRecipe, Recipe


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """A network of the plan; the fields are those of its JSON.

    Attributes:
        recipe: name of the recipe.
        network: its name.
        columns: of the table that its runs give an error for.
        parameters: of the network.
        multiply_adds: of one image's forward pass.
        epochs: of a run.
        steps: of a run.
        step_seconds: of a measured training step; None where none was measured.
        step_failed: why no step could be measured; None if it did not fail.
        runs: how many there are, one a seed.
        training_multiply_adds: of all runs.
        seconds_left: of the runs that are not done, evaluation not counted; None where no step was measured.
        states: how many runs are in each.
    """

    recipe: str
    network: str
    columns: tuple[str, ...]
    parameters: int
    multiply_adds: int
    epochs: int
    steps: int
    step_seconds: float | None
    step_failed: str | None
    runs: int
    training_multiply_adds: int
    seconds_left: float | None
    states: Mapping[State, int]


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
        name, step = run.entry.base, _step_identity(run.recipe)
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


def _step_identity(recipe: Recipe) -> str:
    """A text that is the same for recipes whose steps cost the same."""
    step = StepConfig.of_recipe(recipe)
    # The learning rate and its like change nothing of the cost.
    return repr(dataclasses.replace(step, optimizer=OptimizerRecipe(name=step.optimizer.name)))


def estimated_seconds(run: PlannedRun, costs: Mapping[str, MeasuredStep | JobFailure]) -> float | None:
    """Seconds of a run's training, evaluation not counted; None where no step could be measured."""
    step = costs.get(run.entry.base)
    return step.seconds * steps_of(run.recipe) / run.processes if isinstance(step, MeasuredStep) else None


def plan_rows(runs: Sequence[PlannedRun], costs: Mapping[str, MeasuredStep | JobFailure]) -> list[PlanRow]:
    """The plan: a row for every recipe, with what its runs cost and how far they are.

    Args:
        runs: of the plan.
        costs: a training step of each network, by the name of its recipe.
    """
    return [_plan_row(same, costs) for same in by_recipe(runs).values()]


def _plan_row(runs: Sequence[PlannedRun], costs: Mapping[str, MeasuredStep | JobFailure]) -> PlanRow:
    first, cost = runs[0], costs.get(runs[0].entry.base)
    arithmetic = cost_of(first.recipe)
    states = [run.state for run in runs]
    seconds = [estimated_seconds(run, costs) for run in runs if run.state != "done"]
    known = [value for value in seconds if value is not None]
    return PlanRow(
        recipe=first.entry.base,
        network=first.entry.network,
        columns=first.entry.columns,
        parameters=arithmetic.parameters,
        multiply_adds=arithmetic.multiply_adds,
        epochs=first.recipe.training.epochs,
        steps=steps_of(first.recipe),
        step_seconds=cost.seconds if isinstance(cost, MeasuredStep) else None,
        step_failed=cost.reason if isinstance(cost, JobFailure) else None,
        runs=len(runs),
        training_multiply_adds=arithmetic.training_multiply_adds * len(runs),
        seconds_left=sum(known, 0.0) if len(known) == len(seconds) else None,
        states={state: states.count(state) for state in STATES},
    )
