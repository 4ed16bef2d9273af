"""Finished runs side by side: error against what the networks and their training cost (Figs. 3 and 4).

Needs no PyTorch but to read what a checkpoint says of its network.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenets.analysis.curves import error_curves
from densenets.architecture.network import network_facts
from densenets.benchmark.step import StepConfig, measured_step, peak_bytes, phases_per_image
from densenets.checkpoint import Description, read_description
from densenets.errors import InputError
from densenets.files import read_json, read_json_lines, write_json
from densenets.models.zoo import kind_of
from densenets.training.recipe import Recipe, recipe_from_dict

COST_FILE = "step-cost.json"  # in a run's folder: what its step took when it was measured

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that was evaluated.

    Attributes:
        folder: of the run.
        recipe: that it followed.
        description: of the checkpoint that it reports.
        evaluation: what stands in evaluation.json.
    """

    folder: Path
    recipe: Recipe
    description: Description
    evaluation: Mapping[str, Any]

    @property
    def step(self) -> StepConfig:
        """A training step of it."""
        config = self.description.config
        sides = (self.description.preprocessing.image_size,) * config.spatial_dims
        return StepConfig.of_training(self.recipe, config, sides)

    @property
    def network(self) -> str:
        """Its name, or of weights that say themselves what they are, the family and the depth."""
        config, named = self.description.config, self.recipe.model.config
        same = dataclasses.replace(named, num_classes=config.num_classes, in_channels=config.in_channels)
        return self.recipe.model.name if same == config else f"{config.title} of depth {config.depth}"

    @property
    def kind(self) -> str:
        """What a figure's legend calls it."""
        name = self.recipe.model.name
        return kind_of(name) if self.network == name else self.description.config.title


def read_run(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        InputError: it is no run's folder, or the run has not come to its end.
    """
    if not (folder / "recipe.json").exists():
        raise InputError(f"{folder} is no run's folder (it has no recipe.json); name runs of densenets train")
    if not (folder / "evaluation.json").exists():
        raise InputError(f"the run {folder} has not come to its end; go on with --resume --out {folder}")
    return FinishedRun(
        folder=folder,
        recipe=read_recipe(folder),
        description=read_description(folder),
        evaluation=read_json(folder / "evaluation.json"),
    )


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a run's folder.

    Raises:
        InputError: there is none, or it is not one of this version's.
    """
    try:
        return recipe_from_dict(read_json(folder / "recipe.json"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'recipe.json'} is no recipe of this version ({error})") from error


def efficiency_rows(folders: Sequence[Path], *, measure: bool, announce: Callable[[str], None]) -> list[Row]:
    """A row for every recipe among the runs; runs that differ in their seed alone are one row.

    Args:
        folders: finished runs, all evaluated on the same data.
        measure: measure a training step of each recipe, if its run's folder does not hold one already; it is
            kept there.
        announce: told of each measurement before it is made.

    Returns:
        network, series (its kind), recipe, runs; errors of each seed, mean_error and deviation (None with
        fewer than two), in percent; parameters and multiply_adds (of a forward pass of one image);
        training_seconds, the mean of the runs'; forward_ms, backward_ms, step_ms an image and memory_bytes of
        a step, None where none was measured; step_failed; batch; curves, by epoch; paper_error, None: runs
        of anybody's own have none.

    Raises:
        InputError: a run is not finished, or the runs are of different data.
    """
    runs = [read_run(folder) for folder in folders]
    data = sorted({_data(run) for run in runs})
    if len(data) > 1:
        raise InputError(
            f"the runs are of {' and '.join(data)}: errors on different images cannot be compared; name runs "
            "of one of them"
        )
    same: dict[str, list[FinishedRun]] = {}
    for run in runs:
        same.setdefault(repr(_without_seed(run.recipe)), []).append(run)
    return [_row(group, _cost(group[0], measure, announce)) for group in same.values()]


def _data(run: FinishedRun) -> str:
    data = run.recipe.data
    return data.name if data.in_memory else f"{data.name} {data.root}"


def _without_seed(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe, name="", training=dataclasses.replace(recipe.training, seed=0, tensorboard=False)
    )


def _cost(run: FinishedRun, measure: bool, announce: Callable[[str], None]) -> dict[str, Any]:
    file = run.folder / COST_FILE
    if file.exists():
        return dict(read_json(file))
    if not measure:
        return {}
    announce(f"a training step of {run.folder}")
    cost = measured_step(run.step)
    if "failed" not in cost:
        write_json(file, cost)
    return cost


def _row(runs: Sequence[FinishedRun], cost: dict[str, Any]) -> Row:
    first = runs[0]
    facts = network_facts(first.recipe.name, first.description.config, first.step.sides)
    errors = [run.evaluation["top1_error"] for run in runs]
    return {
        "network": first.network,
        "series": first.kind,
        "recipe": first.recipe.name,
        "runs": [str(run.folder) for run in runs],
        "errors": errors,
        "mean_error": statistics.fmean(errors),
        "deviation": statistics.stdev(errors) if len(errors) > 1 else None,
        "paper_error": None,
        "parameters": facts.total("parameters"),
        "multiply_adds": facts.total("multiply_adds"),
        "training_seconds": statistics.fmean(run.evaluation["training_seconds"] for run in runs),
        **phases_per_image(cost),
        "memory_bytes": peak_bytes(cost),
        "step_failed": cost.get("failed"),
        "batch": first.recipe.training.batch_size,
        "curves": error_curves([read_json_lines(run.folder / "metrics.jsonl") for run in runs]),
    }
