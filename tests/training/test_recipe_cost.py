"""What a recipe costs, against counts by hand."""

from __future__ import annotations

import pytest

from densenets.errors import InputError
from densenets.models.layer_table import layer_table
from densenets.reproduce.plan import steps_of
from densenets.training.recipe import changed
from densenets.training.recipe_cost import recipe_cost
from densenets.training.recipes import named_recipe


def test_training_is_three_forward_passes_an_image_and_epoch() -> None:
    recipe = named_recipe("cifar10-densenet-bc-100-12")
    cost = recipe_cost(recipe)
    assert cost is not None
    assert cost.parameters == 769_162
    assert cost.training_multiply_adds == 3 * 50_000 * 300 * cost.multiply_adds


def test_an_epoch_of_half_the_size_has_a_quarter_of_the_convolutions() -> None:
    own = named_recipe("cifar10-densenet-bc-100-12")
    recipe = changed(own, {"training.epochs": 4, "training.progressive_sizes": (16, 32, 32, 32)})
    cost = recipe_cost(recipe)
    assert cost is not None
    classifier = 342 * 10  # it reads means over the pixels, however many
    forward = cost.multiply_adds
    assert cost.training_multiply_adds == 3 * 50_000 * (
        (forward - classifier) // 4 + classifier + 3 * forward
    )
    full = recipe_cost(own)
    assert full is not None
    assert (cost.parameters, forward) == (full.parameters, full.multiply_adds)


def test_the_hour_is_a_quarter_of_its_epochs_at_each_size() -> None:
    recipe = named_recipe("cifar10-hour")
    assert recipe.network == named_recipe("cifar10-densenet-bc-100-12").network
    epochs_of_size = {16: 4, 20: 3, 24: 4, 32: 3}
    sizes = [recipe.training.training_size(epoch) for epoch in range(14)]
    assert sizes == [size for size, epochs in epochs_of_size.items() for _ in range(epochs)]
    assert steps_of(recipe) == 14 * 782  # 781 whole batches of 64, and the 16 images that are left
    cost = recipe_cost(recipe)
    assert cost is not None
    per_pixel = (cost.multiply_adds - 3420) // 32**2
    forward = sum(epochs * (per_pixel * size**2 + 3420) for size, epochs in epochs_of_size.items())
    assert cost.training_multiply_adds == 3 * 50_000 * forward


def test_held_out_images_cost_nothing_and_folders_are_not_known() -> None:
    recipe = changed(named_recipe("svhn-densenet-40-12"), {"training.progressive_sizes": (24, 32)})
    cost = recipe_cost(recipe)
    assert cost is not None
    images = 73_257 + 531_131 - 6_000
    by_size = [layer_table("", recipe.network, (side, side)).total("multiply_adds") * 20 for side in (24, 32)]
    assert cost.training_multiply_adds == 3 * images * sum(by_size)
    assert recipe_cost(named_recipe("finetune")) is None


def test_a_size_that_the_network_cannot_read_has_no_cost() -> None:
    recipe = changed(named_recipe("cifar10-quick"), {"training.progressive_sizes": (2, 32)})
    with pytest.raises(InputError, match="input 3x2x2 is too small"):
        recipe_cost(recipe)
