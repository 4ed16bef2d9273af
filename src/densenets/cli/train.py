"""`densenets train RECIPE`: train a network; every field of the recipe is an option."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densenets.cli.command import Command
from densenets.data.data_config import require_package_of
from densenets.extras import has_extra
from densenets.training.recipe import Recipe
from densenets.training.recipes import named_recipe


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Recipe):
    """A recipe, and the folder of its run."""

    out: Path
    """The run's folder."""
    resume: bool = False
    """Go on with the run in that folder, if there is one."""


def train_command(recipe_name: str) -> Command[TrainOptions]:
    """Training by a recipe, whose values are the defaults.

    Raises:
        InputError: no recipe has this name.
    """
    recipe = named_recipe(recipe_name)
    default = TrainOptions(**recipe_fields(recipe), out=Path("runs") / recipe.name)
    return Command(title=f"train {recipe_name}", options=TrainOptions, call=train, default=default)


def train(options: TrainOptions) -> None:
    """Train a network by a recipe, and print what its folder holds."""
    require_package_of(options.data.name)
    draws = has_extra("plots", "confusion.png and curves.png")
    from densenets.machine import choose_device, keep_freed_memory
    from densenets.training import loop

    if choose_device(options.training.device).type == "cpu":
        keep_freed_memory()
    result = loop.train(Recipe(**recipe_fields(options)), options.out, resume=options.resume)
    if os.environ.get("RANK", "0") == "0":
        if draws:
            from densenets.report.run_pictures import write_run_pictures

            write_run_pictures(result, options.out)
        pictures = ", confusion.png, curves.png" if draws else ""
        print(f"{options.out} holds evaluation.json{pictures} and checkpoints/")


def recipe_fields(recipe: Recipe) -> dict[str, Any]:
    """Field -> value of a recipe, without what a subclass adds."""
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(Recipe)}
