"""Parameters and multiply-adds of a recipe's network and of its training. Needs no PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from densenets.data.dataset_info import training_count
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
    epochs = _epochs_by_size(recipe)
    tables = {size: layer_table(recipe.name, recipe.network, (size, size)) for size in epochs}
    own = tables[recipe.image_size]  # the last epoch is of this size
    forward = sum(count * tables[size].total("multiply_adds") for size, count in epochs.items())
    return RecipeCost(
        parameters=own.total("parameters"),
        multiply_adds=own.total("multiply_adds"),
        training_multiply_adds=TRAINING_COST * images * forward,
    )


def _epochs_by_size(recipe: Recipe) -> Mapping[int, int]:
    """Side of the training images in pixels -> the number of epochs that train on it."""
    training = recipe.training
    if not training.progressive_sizes:
        return {recipe.image_size: training.epochs}
    return Counter(training.training_size(epoch) or recipe.image_size for epoch in range(training.epochs))
