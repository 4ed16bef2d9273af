"""A run's folder as plain data: its recipe, its result, and the cost of its step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenets.analysis.learning_curves import Epoch, epochs_of, evaluation_split
from densenets.checkpoint import Description, read_description
from densenets.errors import InputError
from densenets.files import read_json, write_json
from densenets.models.registry import network_entry
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import MeasuredStep, measured_step, read_measured_step
from densenets.profiling.step import StepConfig
from densenets.records import RunEvaluation, read_evaluation, read_metrics, read_starts
from densenets.subprocess_jobs import JobFailure
from densenets.training.recipe import Recipe, recipe_from_dict


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run of `densenets train`.

    Attributes:
        folder: of the run.
        recipe: that it followed.
        description: of the checkpoint that it reports.
        evaluation: of that checkpoint; None before the run has come to its end.
        epochs: error and loss after each.
        starts: of each start, versions, device, date and command.
    """

    folder: Path
    recipe: Recipe
    description: Description
    evaluation: RunEvaluation | None
    epochs: tuple[Epoch, ...]
    starts: tuple[dict[str, Any], ...]

    @property
    def evaluation_split(self) -> str:
        """The images that were evaluated between epochs: validation or test."""
        data = self.recipe.data
        # An older version wrote of a named set's test images as of validation images.
        if data.in_memory and not data.held_out:
            return "test"
        return evaluation_split(self.epochs)

    @property
    def reported(self) -> str:
        """The images that the result is an error on: test or validation."""
        return self.evaluation.reported_split if self.evaluation else "test"

    @property
    def step(self) -> StepConfig:
        """A training step of the run."""
        config = self.description.config
        sides = (self.description.preprocessing.image_size,) * config.spatial_dims
        return StepConfig.of_training(self.recipe, config, sides)

    @property
    def network(self) -> str:
        """Name of its network, or family and depth where the weights themselves say what it is."""
        config, named = self.description.config, self.recipe.model.config
        same = dataclasses.replace(named, num_classes=config.num_classes, in_channels=config.in_channels)
        return self.recipe.model.name if same == config else f"{config.title} of depth {config.depth}"

    @property
    def series(self) -> str:
        """The label of its network in a figure's legend."""
        name = self.recipe.model.name
        if self.network != name:
            return self.description.config.title
        return network_entry(name).architecture.label

    def cost(
        self, execution: Execution, *, measure: bool, announce: Callable[[str], None]
    ) -> MeasuredStep | JobFailure | None:
        """Time and memory of the run's step, measured once and then kept in its folder.

        Args:
            execution: of the dense blocks.
            measure: measure it if the folder does not hold it; otherwise the result is None.
            announce: told of a measurement before it is made.
        """
        file = self.folder / f"step-cost-{execution}.json"
        if known := read_measured_step(file):
            return known
        if not measure:
            return None
        announce(f"a training step of {self.folder}, {execution}")
        cost = measured_step(dataclasses.replace(self.step, execution=execution))
        if isinstance(cost, MeasuredStep):
            write_json(file, cost.to_dict())
        return cost


def read_run(folder: Path) -> RunFacts:
    """Read a run's folder, finished or not.

    Raises:
        InputError: it is no run's folder, or has no checkpoint yet.
    """
    if not (folder / "recipe.json").exists():
        raise InputError(f"{folder} is no run's folder (it has no recipe.json); name runs of densenets train")
    recipe, description = _read_recipe(folder / "recipe.json"), read_description(folder)
    return RunFacts(
        folder=folder,
        recipe=recipe,
        description=description,
        evaluation=read_evaluation(folder / "evaluation.json", description.classes),
        epochs=epochs_of(read_metrics(folder / "metrics.jsonl")),
        starts=tuple(read_starts(folder / "environment.json")),
    )


def _read_recipe(file: Path) -> Recipe:
    fields = read_json(file)
    try:
        recipe = recipe_from_dict(fields)
        _ = recipe.model.config  # the name is one of the zoo
    except InputError as error:
        raise InputError(f"{file} is no recipe of this version ({error})") from error
    return recipe
