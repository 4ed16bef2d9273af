"""The runs of a target: folder, command and state of each. Needs no PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from densenets.data.dataset_info import steps_per_epoch, training_count
from densenets.files import read_json
from densenets.records import Failure, has_result
from densenets.reproduce.options import ReproduceOptions
from densenets.reproduce.targets import Entry, entries
from densenets.schema import read
from densenets.training.recipe import Recipe, changed
from densenets.training.recipe_cost import RecipeCost, recipe_cost

State = Literal["new", "cut", "done", "failed"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training run.

    Attributes:
        entry: the network and its recipe.
        seed: of the run.
        folder: the run's own.
        processes: that train it together.
    """

    entry: Entry
    seed: int
    folder: Path
    processes: int = 1

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the named recipe that differ."""
        return {**self.entry.changes, "training.seed": self.seed}

    @property
    def recipe(self) -> Recipe:
        """The recipe with the changes and the seed."""
        return changed(self.entry.recipe, {"training.seed": self.seed})

    @property
    def failure_file(self) -> Path:
        """The file that says why the run failed, if it did."""
        return self.folder.with_name(f"{self.folder.name}.failed.json")

    @property
    def log_file(self) -> Path:
        """The file of what the run printed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def ten_crop_folder(self) -> Path:
        """Folder of the evaluation by ten crops, where the table asks for it."""
        return self.folder / "ten-crop"

    @property
    def state(self) -> State:
        """How far the run is."""
        if has_result(self.folder):
            missing = len(self.entry.columns) > 1 and not has_result(self.ten_crop_folder)
            return "cut" if missing else "done"
        if self.failure_file.exists():
            return "failed"
        return "cut" if (self.folder / "recipe.json").exists() else "new"

    @property
    def failure(self) -> str:
        """Why the run failed, in one line; empty if it did not."""
        if self.state != "failed":
            return ""
        what = f"{self.failure_file} is not readable; remove it to run again"
        return read(Failure, read_json(self.failure_file), what)["reason"]

    def command(self) -> list[str]:
        """The command that trains the run, from the start or from where it was cut."""
        options = [*flags(self.changes), "--out", str(self.folder), "--resume"]
        return [*_densenets(self.processes), "train", self.entry.base, *options]

    def ten_crop_command(self) -> list[str]:
        """The command that evaluates the run by ten crops."""
        root = ["--root", str(self.recipe.data.root)]
        options = ["--data", "imagenet", *root, "--crops", "10", "--out", str(self.ten_crop_folder)]
        return [*_densenets(self.processes), "evaluate", str(self.folder), *options]


def planned_runs(options: ReproduceOptions) -> list[PlannedRun]:
    """Every run of a target, seed by seed, so that all networks are trained once before any twice."""
    listed = entries(options)
    return [
        PlannedRun(
            entry=entry,
            seed=seed,
            folder=options.folder / "runs" / f"{entry.base}-seed{seed}",
            processes=options.processes,
        )
        for seed in range(options.seeds)
        for entry in listed
    ]


def by_recipe(runs: Sequence[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """The runs of each recipe, which differ in their seed alone, by the recipe's name."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(run.entry.base, []).append(run)
    return groups


def steps_of(recipe: Recipe) -> int:
    """Training steps of a whole run."""
    images = training_count(recipe.data)
    assert images is not None
    return recipe.training.epochs * steps_per_epoch(images, recipe.training.batch_size)


def cost_of(recipe: Recipe) -> RecipeCost:
    """Cost of a run by arithmetic; the data sets of all targets are of known size."""
    cost = recipe_cost(recipe)
    assert cost is not None
    return cost


def flags(changes: dict[str, Any]) -> list[str]:
    """Fields of a recipe as options of `densenets train`."""
    options: list[str] = []
    for name, value in changes.items():
        group, _, field = name.partition(".")
        option = field.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{group}.{'' if value else 'no-'}{option}")
        elif isinstance(value, tuple):
            options += [f"--{group}.{option}", *(str(item) for item in value)]
        else:
            options += [f"--{group}.{option}", str(value)]
    return options


def _densenets(processes: int) -> list[str]:
    if processes == 1:
        return [sys.executable, "-m", "densenets"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *torchrun, "-m", "densenets"]
