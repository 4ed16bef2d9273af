"""Parameters and multiply-adds of a recipe's network and of its training. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from densenets.data.dataset_info import DATASET_INFO, training_count
from densenets.models.layer_rows import TRAINING_COST
from densenets.models.layer_table import layer_table
from densenets.training.recipe import Recipe


@dataclass(frozen=True)
class RecipeCost:
    """The cost of a recipe's network and of its whole training.

    Attributes:
        parameters: of the network.
        multiply_adds: of a test-time forward pass of one image.
        training_multiply_adds: of all training steps.
    """

    parameters: int
    multiply_adds: int
    training_multiply_adds: int


def recipe_cost(recipe: Recipe) -> RecipeCost | None:
    """The cost of a recipe; None where the size of its data set is not known before it is read."""
    images = training_count(recipe.data)
    if images is None:
        return None
    side = DATASET_INFO[recipe.data.name].side
    table = layer_table(recipe.name, recipe.network, (side, side))
    forward = table.total("multiply_adds")
    passes = TRAINING_COST * images * recipe.training.epochs
    return RecipeCost(table.total("parameters"), forward, passes * forward)
