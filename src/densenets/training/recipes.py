"""Recipes by name: the paper's protocols, the baselines' own, and some of this project. Needs no PyTorch.

Where a docstring says what came out, it was measured by this project, with the command and the machine
named; the paper's figures stand in `densenets.models.registry`.
"""

from __future__ import annotations

from collections.abc import Callable

from densenets.data.data_config import AugmentationStep, DataConfig
from densenets.errors import UnknownName, unknown_name
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import BASELINES, DENSENETS, NETWORKS, named_config
from densenets.training.baseline_recipes import has_own_recipe, own_recipe
from densenets.training.recipe import (
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
    TrainingRecipe,
    changed,
)

_STANDARD: tuple[AugmentationStep, ...] = ("normalize", "mirror", "crop")
_IMAGENET: tuple[AugmentationStep, ...] = (
    "resized-crop",
    "color-jitter",
    "lighting",
    "normalize",
    "mirror",
)
_FINETUNE: tuple[AugmentationStep, ...] = ("resized-crop", "normalize", "mirror")


def digits() -> Recipe:
    """The demo: real handwritten digits of 8x8 pixels, which come with scikit-learn."""
    return Recipe(
        name="digits",
        model=ModelRecipe(name="densenet-bc-22-16", dropout=0.1),
        data=DataConfig(name="digits", augmentation=("normalize", "crop"), padding=1),
        optimizer=OptimizerRecipe(weight_decay=1e-3),
        schedule=ScheduleRecipe(name="cosine", warmup_epochs=1),
        training=TrainingRecipe(
            epochs=40,
            batch_size=64,
            label_smoothing=0.1,
            mixup=0.2,
            ema_decay=0.98,
            channels_last=True,
        ),
    )


def cifar10_quick() -> Recipe:
    """CIFAR-10 on two processor cores in a coffee break.

    The layers of densenet-bc-28-16, most of them moved to where maps are small and cheap.
    """
    return Recipe(
        name="cifar10-quick",
        model=ModelRecipe(name="densenet-bc-28-16", block_layers=(2, 4, 6)),
        data=DataConfig(name="cifar10", augmentation=_STANDARD),
        optimizer=OptimizerRecipe(learning_rate=0.3, weight_decay=5e-4),
        schedule=ScheduleRecipe(name="onecycle"),
        training=TrainingRecipe(
            epochs=8,
            batch_size=128,
            label_smoothing=0.05,
            precision="bfloat16",
            channels_last=True,
        ),
    )


def cifar10_hour() -> Recipe:
    """The paper's DenseNet-BC-100-12 on CIFAR-10, within an hour on two cores with bfloat16 instructions.

    One cycle of the rate instead of the paper's steps; a quarter of the epochs each on images of 16, 20, 24
    and 32 pixels; five times the paper's weight decay, on convolutions and classifier alone; smoothed labels.
    Run it by `densenets train cifar10-hour`. Seeds 0, 1 and 2 ended at 8.10, 8.23 and 8.02% in 28, 32 and 29
    minutes on two cores of an AMD EPYC (Zen 5); with 18 epochs one run ended at 7.13% in 63 minutes on two
    cores of an Intel Xeon that others used too.
    """
    return Recipe(
        name="cifar10-hour",
        model=ModelRecipe(name="densenet-bc-100-12"),
        data=DataConfig(name="cifar10", augmentation=_STANDARD),
        optimizer=OptimizerRecipe(learning_rate=0.15, weight_decay=5e-4, decay_norms=False),
        schedule=ScheduleRecipe(name="onecycle", peak=0.25),
        training=TrainingRecipe(
            epochs=14,
            batch_size=64,
            label_smoothing=0.1,
            progressive_sizes=(16, 20, 24, 32),
            precision="bfloat16",
            evaluate_every=7,
        ),
    )


def finetune() -> Recipe:
    """A folder of class folders, from the weights of any DenseNet (--model.weights FILE).

    Without weights the network of --model.name starts from scratch. The best epoch on the validation images
    is the result; without any (a folder of train/ and test/ alone) the last one.
    """
    return Recipe(
        name="finetune",
        model=ModelRecipe(name="densenet121"),
        data=DataConfig(name="folder", augmentation=_FINETUNE, normalization="imagenet"),
        optimizer=OptimizerRecipe(learning_rate=0.01),
        schedule=ScheduleRecipe(name="cosine", warmup_epochs=0.5),
        training=TrainingRecipe(epochs=10, batch_size=32, label_smoothing=0.1, report="auto"),
    )


def cifar(data: str, network: str, *, augmented: bool) -> Recipe:
    """The paper's CIFAR protocol (section 4.2): 300 epochs, batch 64, rate / 10 at 50% and 75%.

    Mirror and crop on the "+" sets; without them ("-plain") DenseNets have dropout of 0.2. All training
    images are trained on and the last epoch's test error is the result; hold 5,000 out with
    --data.held-out 5000 while developing.
    """
    return Recipe(
        name=f"{data}{'' if augmented else '-plain'}-{network}",
        model=ModelRecipe(name=network, dropout=0.0 if augmented else _dropout(network)),
        data=DataConfig(name=data, augmentation=_STANDARD if augmented else ("normalize",)),
        training=TrainingRecipe(epochs=300, batch_size=64),
    )


def svhn(network: str) -> Recipe:
    """The paper's SVHN protocol: train + extra, pixels / 255, no augmentation, 40 epochs.

    DenseNets have dropout of 0.2. 6,000 images are held out, and the best model on them is the result.
    """
    return Recipe(
        name=f"svhn-{network}",
        model=ModelRecipe(name=network, dropout=_dropout(network)),
        data=DataConfig(name="svhn", normalization="scale", held_out=6000),
        training=TrainingRecipe(epochs=40, batch_size=64, report="best"),
    )


def imagenet(network: str) -> Recipe:
    """The paper's ImageNet protocol: 90 epochs, batch 256, rate / 10 at epochs 30 and 60.

    With the official code's augmentation: random resized crop, colour jitter, PCA lighting, mirror.
    """
    return Recipe(
        name=f"imagenet-{network}",
        model=ModelRecipe(name=network),
        data=DataConfig(name="imagenet", augmentation=_IMAGENET, normalization="imagenet", workers=16),
        schedule=ScheduleRecipe(milestones=(30 / 90, 60 / 90)),
        training=TrainingRecipe(epochs=90, batch_size=256, precision="bfloat16", channels_last=True),
    )


_SINGLE_RECIPES: dict[str, Callable[[], Recipe]] = {
    "digits": digits,
    "cifar10-quick": cifar10_quick,
    "cifar10-hour": cifar10_hour,
    "finetune": finetune,
}
_SMALL_DATA = ("cifar10", "cifar100", "fashion-mnist", "svhn")
_OWN, _UNAUGMENTED = "own-", "plain-"


def recipe_names() -> list[str]:
    """This project's recipes, then the paper's for every named network, and the baselines' own.

    Of the baselines only CIFAR-10's with augmentation and ImageNet's; more can be named by the same rules,
    such as cifar100-plain-own-resnet110, cifar10-densenet-bc-40-24 or fashion-mnist-densenet-bc-100-12.
    """
    small = [name for name, entry in DENSENETS.items() if not _is_for_imagenet(entry.config)]
    baselines = [name for name, entry in BASELINES.items() if not _is_for_imagenet(entry.config)]
    return [
        *_SINGLE_RECIPES,
        *(f"{data}-{name}" for data in ("cifar10", "cifar100") for name in small),
        *(f"{data}-plain-{name}" for data in ("cifar10", "cifar100") for name in small),
        *(f"svhn-{name}" for name in small),
        *(f"cifar10-{name}" for name in baselines),
        *(f"cifar10-own-{name}" for name in baselines),
        *(f"imagenet-{name}" for name, entry in NETWORKS.items() if _is_for_imagenet(entry.config)),
    ]


def named_recipe(name: str) -> Recipe:
    """The recipe of a name: one of this project, or DATA[-plain][-own]-NETWORK.

    "-plain" is without augmentation; "-own" is the recipe of the network's paper instead of DenseNet's.

    Raises:
        InputError: no recipe has this name, or no network has its depth or width.
    """
    if name in _SINGLE_RECIPES:
        return _SINGLE_RECIPES[name]()
    if name.startswith("imagenet-"):
        network = name.removeprefix("imagenet-")
        if (config := _known(network)) and _is_for_imagenet(config):
            return imagenet(network)
    for data in _SMALL_DATA:
        if not name.startswith(f"{data}-"):
            continue
        # A network may be called plain-110, so what a prefix would leave is looked at last.
        for prefix in ("", _UNAUGMENTED, _OWN, _UNAUGMENTED + _OWN):
            rest = name.removeprefix(f"{data}-")
            network = rest.removeprefix(prefix)
            if not rest.startswith(prefix) or (config := _known(network)) is None:
                continue
            recipe = _protocol_recipe(
                data, network, config, augmented=_UNAUGMENTED not in prefix, own=_OWN in prefix
            )
            if recipe is not None:
                return recipe
    raise unknown_name("recipe", name, recipe_names())


def _protocol_recipe(
    data: str, network: str, config: NetworkConfig, *, augmented: bool, own: bool
) -> Recipe | None:
    """The recipe of a network on a small data set; None where the protocol has none."""
    if (
        _is_for_imagenet(config)
        or (own and not has_own_recipe(network))
        or (data == "svhn" and not augmented)
    ):
        return None
    recipe = svhn(network) if data == "svhn" else cifar(data, network, augmented=augmented)
    if isinstance(config, FractalNetConfig) and config.global_drop_path:
        # What is trained are single columns and partial joins; what is tested is the join of all.
        recipe = changed(recipe, {"training.statistics_batches": 20})
    return own_recipe(recipe) if own else recipe


def _known(network: str) -> NetworkConfig | None:
    try:
        return named_config(network)
    except UnknownName:
        return None


def _is_for_imagenet(config: NetworkConfig) -> bool:
    return config.default_size == 224


def _dropout(network: str) -> float:
    """The paper's dropout for DenseNets without augmentation; baselines have their own papers'."""
    return 0.2 if isinstance(named_config(network), DenseNetConfig) else 0.0
