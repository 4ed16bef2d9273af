"""Which parameters an optimiser decays, by one step against a computation by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.models.create import build_network
from densenets.models.network import Network
from densenets.models.registry import named_config
from densenets.training.recipe import OptimizerRecipe
from densenets.training.train_step import build_optimizer

NAMES = ("densenet-bc-10-4", "resnet20", "nin", "highway-19")
RATE, DECAY, MOMENTUM = 0.5, 0.1, 0.9


def network(name: str) -> Network:
    model = build_network(named_config(name), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # norms begin with 1 and biases with 0, of which no decay can be seen
        for value in model.parameters():
            value.normal_(generator=torch.Generator().manual_seed(1))
    return model


def stepped(model: Network, recipe: OptimizerRecipe, gradient: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Every parameter before and after the optimiser's first step, all gradients being the same number."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = build_optimizer(model, recipe)
    for value in model.parameters():
        value.grad = torch.full_like(value, gradient)
    optimizer.step()
    return {name: (before[name], value.detach()) for name, value in model.named_parameters()}


def norms_and_biases(model: Network) -> set[str]:
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, _BatchNorm) or name == "bias"
    }


@pytest.mark.parametrize("decay_norms", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_sgd_decays_what_the_recipe_says(name: str, decay_norms: bool) -> None:
    model = network(name)
    recipe = OptimizerRecipe(
        learning_rate=RATE, weight_decay=DECAY, momentum=MOMENTUM, decay_norms=decay_norms
    )
    kept = norms_and_biases(model)
    assert kept
    assert kept < {parameter for parameter, _ in model.named_parameters()}
    for parameter, (before, after) in stepped(model, recipe, gradient=0.25).items():
        decay = DECAY if decay_norms or parameter not in kept else 0.0
        # Nesterov's first step: gradient + momentum * velocity, and the velocity is the gradient.
        expected = before - RATE * (1 + MOMENTUM) * (0.25 + decay * before)
        torch.testing.assert_close(after, expected, msg=parameter)


@pytest.mark.parametrize("decay_norms", [True, False])
def test_adamw_decays_what_the_recipe_says(decay_norms: bool) -> None:
    model = network("densenet-bc-10-4")
    recipe = OptimizerRecipe(name="adamw", learning_rate=RATE, weight_decay=DECAY, decay_norms=decay_norms)
    kept = norms_and_biases(model)
    for parameter, (before, after) in stepped(model, recipe, gradient=0.25).items():
        decay = DECAY if decay_norms or parameter not in kept else 0.0
        # The first step of Adam is the rate times the gradient's sign.
        expected = before * (1 - RATE * decay) - RATE
        torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5, msg=parameter)
