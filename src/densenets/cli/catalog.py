"""The lists of what there is, networks and recipes, as plain data. Needs no PyTorch."""

from __future__ import annotations

from typing import Any

from densenets.models.layer_table import layer_table
from densenets.models.registry import NETWORKS
from densenets.training.recipe import Recipe
from densenets.training.recipe_cost import recipe_cost
from densenets.training.recipes import named_recipe, recipe_names


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
