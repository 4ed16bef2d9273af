"""Recipes of the baselines, each as its own paper trained it.

Each changes DenseNet's protocol for the same data where the network's paper differs. Two things are the same
for all: pixels are normalised by channel (some whitened them), and weight decay acts on every parameter.
Needs no PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from densenets.models.registry import network_entry
from densenets.training.recipe import ModelRecipe, OptimizerRecipe, Recipe, ScheduleRecipe


def own_recipe(recipe: Recipe) -> Recipe:
    """Turn DenseNet's recipe of a network and its data into that of the network's own paper."""
    network = recipe.model.name
    data = recipe.name.removesuffix(f"-{network}")
    own = _OWN_RECIPES[network_entry(network).architecture.own_recipe]
    return dataclasses.replace(own(recipe), name=f"{data}-own-{network}")


def has_own_recipe(network: str) -> bool:
    """Whether a network has a paper other than DenseNet's, with a recipe of its own.

    Raises:
        InputError: no network has this name.
    """
    return bool(network_entry(network).architecture.own_recipe)


def network_in_network(recipe: Recipe) -> Recipe:
    """Lin et al. 2014, section 4: batch 128; the rate falls to a hundredth in two steps.

    The paper lets it fall when the training error stops falling; the epochs and the steps are ours.
    """
    return _changed(
        recipe,
        OptimizerRecipe(nesterov=False),
        ScheduleRecipe(milestones=(0.8, 0.9)),
        epochs=_epochs(recipe, 300, svhn=40),
        batch_size=128,
    )


def all_cnn(recipe: Recipe) -> Recipe:
    """Springenberg et al. 2015, section 3: 350 epochs, rate / 10 at 200, 250 and 300; crops by 5 pixels.

    Of the four rates that the paper tried (0.25, 0.1, 0.05, 0.01) it is the lowest: at 0.05 the network had
    not begun to learn after 60 steps.
    """
    changed = _changed(
        recipe,
        OptimizerRecipe(learning_rate=0.01, nesterov=False, weight_decay=1e-3),
        ScheduleRecipe(milestones=(200 / 350, 250 / 350, 300 / 350)),
        epochs=_epochs(recipe, 350, svhn=40),
        batch_size=128,
    )
    return dataclasses.replace(changed, data=dataclasses.replace(changed.data, padding=5))


def deeply_supervised_net(recipe: Recipe) -> Recipe:
    """Lee et al. 2015: batch 100, rate 0.025, weight decay 5e-4; companion losses that decay to 0.

    The authors' code trains 340 epochs at that rate and 60 at a 250th of it (and 240 more at a tenth of
    that, left out here). Its squared hinge losses are cross-entropies here, as its authors have them on
    CIFAR-100 and SVHN.
    """
    return _changed(
        recipe,
        OptimizerRecipe(learning_rate=0.025, nesterov=False, weight_decay=5e-4),
        ScheduleRecipe(milestones=(340 / 400,), factor=1 / 250),
        epochs=_epochs(recipe, 400, svhn=40),
        batch_size=100,
    )


def highway(recipe: Recipe) -> Recipe:
    """Srivastava et al. 2015, the authors' solver: 400 epochs of batch 100, rate / 10 at 50, 75 and 87.5%."""
    return _changed(
        recipe,
        OptimizerRecipe(learning_rate=0.025, weight_decay=1e-3),
        ScheduleRecipe(milestones=(0.5, 0.75, 0.875)),
        epochs=_epochs(recipe, 400, svhn=40),
        batch_size=100,
    )


def fractalnet(recipe: Recipe) -> Recipe:
    """Larsson et al. 2017, section 4: 400 epochs (SVHN 20) of batch 100, rate 0.02.

    The rate falls to a tenth whenever half of the epochs that were left are over. No weight decay is
    mentioned, so there is none.
    """
    return _changed(
        recipe,
        OptimizerRecipe(learning_rate=0.02, nesterov=False, weight_decay=0.0),
        ScheduleRecipe(milestones=(0.5, 0.75, 0.875, 0.9375)),
        epochs=_epochs(recipe, 400, svhn=20),
        batch_size=100,
    )


def resnet(recipe: Recipe) -> Recipe:
    """He et al. 2016, section 4.2: 64,000 steps of batch 128, rate / 10 at 50 and 75%; plain nets too.

    From 110 layers on a warm-up: the paper takes a rate of 0.01 for some 400 steps, here it rises for one
    epoch, which is 391 steps of CIFAR.
    """
    depth = recipe.model.config.depth
    return _changed(
        recipe,
        OptimizerRecipe(nesterov=False),
        ScheduleRecipe(warmup_epochs=1.0 if depth >= 110 else 0.0),
        epochs=_epochs(recipe, 164, svhn=40),
        batch_size=128,
    )


def preact_resnet(recipe: Recipe) -> Recipe:
    """He et al. 2016 (Identity Mappings), appendix: as ResNet, with a warm-up for all.

    1001 layers in batches of 64, with which the authors' code gives the 4.62% that the paper quotes.
    """
    changed = resnet(recipe)
    return _changed(
        changed,
        changed.optimizer,
        ScheduleRecipe(warmup_epochs=1.0),
        epochs=changed.training.epochs,
        batch_size=64 if recipe.model.config.depth == 1001 else 128,
    )


def stochastic_depth(recipe: Recipe) -> Recipe:
    """Huang et al. 2016, section 4: 500 epochs of batch 128, 5,000 images held out, the best model on them.

    SVHN 50 epochs, rate / 10 at 30 and 35.
    """
    on_svhn = recipe.data.name == "svhn"
    changed = _changed(
        recipe,
        OptimizerRecipe(),
        ScheduleRecipe(milestones=(30 / 50, 35 / 50) if on_svhn else (0.5, 0.75)),
        epochs=_epochs(recipe, 500, svhn=50),
        batch_size=128,
    )
    return dataclasses.replace(
        changed,
        data=dataclasses.replace(changed.data, held_out=6000 if on_svhn else 5000),
        training=dataclasses.replace(changed.training, report="best"),
    )


def wide_resnet(recipe: Recipe) -> Recipe:
    """Zagoruyko and Komodakis 2016, section 3: 200 epochs of batch 128, rate / 5 at 60, 120 and 160.

    SVHN 160 epochs at 0.01, rate / 10 at 80 and 120, with dropout 0.4.
    """
    if recipe.data.name == "svhn":
        changed = _changed(
            recipe,
            OptimizerRecipe(learning_rate=0.01, weight_decay=5e-4),
            ScheduleRecipe(milestones=(80 / 160, 120 / 160)),
            epochs=160,
            batch_size=128,
        )
        return dataclasses.replace(changed, model=ModelRecipe(name=recipe.model.name, dropout=0.4))
    return _changed(
        recipe,
        OptimizerRecipe(weight_decay=5e-4),
        ScheduleRecipe(milestones=(60 / 200, 120 / 200, 160 / 200), factor=0.2),
        epochs=200,
        batch_size=128,
    )


# By the `own_recipe` of an architecture in `densenets.models.registry`.
_OWN_RECIPES: dict[str, Callable[[Recipe], Recipe]] = {
    "network-in-network": network_in_network,
    "all-cnn": all_cnn,
    "deeply-supervised-net": deeply_supervised_net,
    "highway": highway,
    "fractalnet": fractalnet,
    "resnet": resnet,
    "preact-resnet": preact_resnet,
    "stochastic-depth": stochastic_depth,
    "wide-resnet": wide_resnet,
}


def _epochs(recipe: Recipe, others: int, *, svhn: int) -> int:
    return svhn if recipe.data.name == "svhn" else others


def _changed(
    recipe: Recipe, optimizer: OptimizerRecipe, schedule: ScheduleRecipe, *, epochs: int, batch_size: int
) -> Recipe:
    return dataclasses.replace(
        recipe,
        optimizer=optimizer,
        schedule=schedule,
        training=dataclasses.replace(recipe.training, epochs=epochs, batch_size=batch_size),
    )
