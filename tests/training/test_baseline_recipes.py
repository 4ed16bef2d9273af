"""The protocols of the networks that DenseNet is compared with, beside what their papers say."""

from __future__ import annotations

import pytest

from densenets.models.registry import BASELINES
from densenets.training.recipe import changed
from densenets.training.recipes import named_recipe

# Network: rate, Nesterov, weight decay, batch, epochs, epochs at which the rate falls, and by what factor.
PROTOCOLS = {
    "all-cnn": (0.01, False, 1e-3, 128, 350, (200, 250, 300), 0.1),
    "dsn": (0.025, False, 5e-4, 100, 400, (340,), 1 / 250),
    "highway-19": (0.025, True, 1e-3, 100, 400, (200, 300, 350), 0.1),
    "fractalnet-20-drop-path": (0.02, False, 0.0, 100, 400, (200, 300, 350, 375), 0.1),
    "resnet56": (0.1, False, 1e-4, 128, 164, (82, 123), 0.1),
    "plain-110": (0.1, False, 1e-4, 128, 164, (82, 123), 0.1),
    "preact-resnet164": (0.1, False, 1e-4, 128, 164, (82, 123), 0.1),
    "preact-resnet1001": (0.1, False, 1e-4, 64, 164, (82, 123), 0.1),
    "stochastic-depth-110": (0.1, True, 1e-4, 128, 500, (250, 375), 0.1),
    "wrn-28-10": (0.1, True, 5e-4, 128, 200, (60, 120, 160), 0.2),
}


@pytest.mark.parametrize("network", PROTOCOLS)
@pytest.mark.parametrize("data", ["cifar10", "cifar100", "cifar10-plain"])
def test_a_network_is_trained_as_its_own_paper_says(network: str, data: str) -> None:
    rate, nesterov, decay, batch, epochs, falls, factor = PROTOCOLS[network]
    recipe = named_recipe(f"{data}-own-{network}")
    assert recipe.name == f"{data}-own-{network}"
    optimizer, schedule, training = recipe.optimizer, recipe.schedule, recipe.training
    assert (optimizer.learning_rate, optimizer.nesterov, optimizer.weight_decay) == (rate, nesterov, decay)
    assert (optimizer.name, optimizer.momentum) == ("sgd", 0.9)
    assert (training.batch_size, training.epochs) == (batch, epochs)
    assert [round(milestone * epochs) for milestone in schedule.milestones] == list(falls)
    assert schedule.factor == pytest.approx(factor)
    assert ("crop" in recipe.data.augmentation) == (data != "cifar10-plain")


def test_single_rules() -> None:
    assert named_recipe("cifar10-own-all-cnn").data.padding == 5
    assert named_recipe("cifar10-own-resnet110").schedule.warmup_epochs == 1
    assert named_recipe("cifar10-own-resnet20").schedule.warmup_epochs == 0
    assert named_recipe("cifar10-own-preact-resnet164").schedule.warmup_epochs == 1
    depth = named_recipe("cifar10-own-stochastic-depth-110")
    assert (depth.data.held_out, depth.training.report) == (5000, "best")
    assert named_recipe("imagenet-resnet50").model.name == "resnet50"


@pytest.mark.parametrize("recipe", ["cifar10", "cifar10-own", "cifar100-plain", "svhn", "svhn-own"])
def test_where_columns_are_dropped_statistics_are_made_anew(recipe: str) -> None:
    def batches(network: str) -> int:
        return named_recipe(f"{recipe}-{network}").training.statistics_batches

    assert batches("fractalnet-20-drop-path") == batches("fractalnet-10-9-drop-path") == 20
    assert batches("fractalnet-20") == batches("stochastic-depth-110") == 0


def test_svhn_has_rules_of_its_own() -> None:
    wide = named_recipe("svhn-own-wrn-16-4")
    assert wide.model.config.with_dropout(0.4) == wide.model.config
    assert (wide.optimizer.learning_rate, wide.training.epochs) == (0.01, 160)
    assert [round(share * 160) for share in wide.schedule.milestones] == [80, 120]
    depth = named_recipe("svhn-own-stochastic-depth-110")
    assert depth.training.epochs == 50
    assert [round(share * 50) for share in depth.schedule.milestones] == [30, 35]
    assert named_recipe("svhn-own-fractalnet-20").training.epochs == 20
    assert depth.data.normalization == wide.data.normalization == "scale"


@pytest.mark.parametrize(
    "network", [name for name, entry in BASELINES.items() if entry.config.default_size == 32]
)
def test_densenets_protocol_is_the_same_for_all(network: str) -> None:
    recipe, densenets = named_recipe(f"cifar10-{network}"), named_recipe("cifar10-densenet-bc-100-12")
    # Statistics for the test do not change how weights are trained.
    recipe = changed(recipe, {"training.statistics_batches": 0})
    assert recipe.model.name == network
    for part in ("data", "optimizer", "schedule", "training"):
        assert getattr(recipe, part) == getattr(densenets, part)
    # Without augmentation DenseNets get dropout, the others what their papers gave them.
    assert named_recipe(f"cifar10-plain-{network}").model.dropout == 0


@pytest.mark.parametrize(
    ("name", "network", "augmented"),
    [
        ("cifar10-plain-110", "plain-110", True),
        ("cifar10-plain-plain-110", "plain-110", False),
        ("cifar10-own-plain-110", "plain-110", True),
        ("cifar100-plain-own-plain-20-12", "plain-20-12", False),
        ("cifar10-plain-own-resnet110", "resnet110", False),
        ("fashion-mnist-own-highway-19", "highway-19", True),
    ],
)
def test_a_network_may_be_called_plain(name: str, network: str, augmented: bool) -> None:
    recipe = named_recipe(name)
    assert (recipe.name, recipe.model.name) == (name, network)
    assert ("crop" in recipe.data.augmentation) == augmented
