"""`densenets models` and `densenets recipes`: the lists of what there is. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from densenets.cli.arguments import parse
from densenets.figures.numbers import shape_text, short
from densenets.files import json_text
from densenets.models.layer_table import layer_table
from densenets.models.registry import NAME_FORMS, NETWORKS
from densenets.terminal import console
from densenets.training.recipe import Recipe
from densenets.training.recipe_cost import recipe_cost
from densenets.training.recipes import named_recipe, recipe_names


@dataclass(frozen=True)
class ListOptions:
    """How a list is printed."""

    json: bool = False
    """Print JSON."""


def models(arguments: list[str]) -> None:
    """Print the networks that have a name."""
    options = parse(ListOptions, arguments, "models")
    print(json_text(model_rows())) if options.json else print_models(model_rows())


def recipes(arguments: list[str]) -> None:
    """Print the recipes with what they cost."""
    options = parse(ListOptions, arguments, "recipes")
    print(json_text(recipe_rows())) if options.json else print_recipes(recipe_rows())


def model_rows() -> list[dict[str, Any]]:
    """Every network of the zoo: its facts, and what the papers print of it.

    Of the parameters that a paper prints, in millions, some are not what its own rules give.
    """
    rows = []
    for name, entry in NETWORKS.items():
        side = entry.config.default_size
        facts = layer_table(name, entry.config, (side, side))
        rows.append(
            {
                "name": name,
                "family": entry.config.family,
                "depth": entry.config.depth,
                "growth_rate": getattr(entry.config, "growth_rate", None),
                "input": list(facts.input_shape),
                "parameters": facts.total("parameters"),
                "printed_parameters": entry.printed_parameters or None,
                "multiply_adds": facts.total("multiply_adds"),
                "published_errors": entry.published.top1,
                "source": entry.published.source,
            }
        )
    return rows


def recipe_rows() -> list[dict[str, Any]]:
    """Every recipe: its network, its data, and the multiply-adds that the whole training takes.

    The cost is arithmetic (3 forward passes an image and epoch), None where the data's size is not known.
    The published error is that of the same network and protocol.
    """
    return [_recipe_row(named_recipe(name)) for name in recipe_names()]


def _recipe_row(recipe: Recipe) -> dict[str, Any]:
    cost = recipe_cost(recipe)
    return {
        "name": recipe.name,
        "model": recipe.model.name,
        "data": recipe.data.name,
        "epochs": recipe.training.epochs,
        "batch_size": recipe.training.batch_size,
        "parameters": cost and cost.parameters,
        "multiply_adds": cost and cost.multiply_adds,
        "training_multiply_adds": cost and cost.training_multiply_adds,
        "published_error": _published_error(recipe),
    }


def _published_error(recipe: Recipe) -> float | None:
    entry = NETWORKS.get(recipe.model.name)
    if entry is None:
        return None
    augmented = recipe.data.name.startswith("cifar") and "crop" in recipe.data.augmentation
    return entry.published.top1.get(recipe.data.name + ("+" if augmented else ""))


def print_models(rows: list[dict[str, Any]]) -> None:
    """Print the networks that have a name."""
    table = Table(box=None)
    left = ("model", "input")
    for column in (
        "model",
        "L",
        "k",
        "input",
        "parameters",
        "printed",
        "multiply-adds",
        "published top-1 error (%)",
    ):
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        errors = ", ".join(f"{data} {error:g}" for data, error in row["published_errors"].items())
        table.add_row(
            row["name"],
            f"{row['depth']}",
            f"{row['growth_rate'] or ''}",
            shape_text(row["input"]),
            f"{row['parameters']:,}",
            _printed(row),
            short(row["multiply_adds"]),
            errors or "-",
        )
    out = console()
    out.print(table)
    out.print(
        f"and any of {', '.join(NAME_FORMS)}; + is with standard augmentation; L is the longest path (a Wide "
        "ResNet's name counts two more); printed: parameters as the paper prints them, ! where its own rules "
        "give others",
        style="dim",
        markup=False,
    )


def _printed(row: dict[str, Any]) -> str:
    millions = row["printed_parameters"]
    if millions is None:
        return ""
    return f"{millions:g}M" + ("" if abs(row["parameters"] / (1e6 * millions) - 1) < 0.05 else " !")


def print_recipes(rows: list[dict[str, Any]]) -> None:
    """Print the recipes with what they cost."""
    table = Table(box=None)
    for column in (
        "recipe",
        "epochs",
        "batch",
        "parameters",
        "multiply-adds",
        "training",
        "published error (%)",
    ):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['epochs']}",
            f"{row['batch_size']}",
            f"{row['parameters']:,}" if row["parameters"] else "-",
            short(row["multiply_adds"]),
            short(row["training_multiply_adds"]),
            "-" if row["published_error"] is None else f"{row['published_error']:g}",
        )
    out = console()
    out.print(table)
    out.print(
        "multiply-adds of one image's forward pass, and of the whole training (3 forward passes an image "
        "and epoch); the published error is the authors', not measured here. A recipe is DATA-NETWORK or, "
        "for the peers' own training, DATA-own-NETWORK; DATA is cifar10, cifar100, cifar10-plain, "
        "cifar100-plain (without augmentation), svhn, fashion-mnist or imagenet",
        style="dim",
    )
