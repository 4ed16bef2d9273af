from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from densenets.data.data_config import DataConfig
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import DENSENETS, NETWORKS, named_config
from densenets.training.recipe import (
    ModelRecipe,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
    TrainingRecipe,
    differences,
    recipe_from_dict,
)
from densenets.training.recipes import named_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_its_name_and_a_network(name: str) -> None:
    recipe = named_recipe(name)
    assert recipe.name == name
    if isinstance(recipe.model.config, DenseNetConfig):
        assert recipe.model.config.dropout == recipe.model.dropout


def test_the_paper_has_a_recipe_for_every_network_and_set() -> None:
    names = recipe_names()
    assert len(names) == len(set(names))
    for network, entry in NETWORKS.items():
        if entry.config.default_size == 224:
            assert f"imagenet-{network}" in names
        elif network in DENSENETS:
            for data in ("cifar10", "cifar10-plain", "cifar100", "cifar100-plain", "svhn"):
                assert f"{data}-{network}" in names
        else:
            assert {f"cifar10-{network}", f"cifar10-own-{network}"} <= set(names)


@pytest.mark.parametrize("name", [name for name in recipe_names() if "-densenet" in name])
def test_the_papers_optimizer_is_everywhere(name: str) -> None:
    assert named_recipe(name).optimizer == OptimizerRecipe(
        name="sgd",
        learning_rate=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        gradient_clip=0.0,
    )


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_cifar_is_trained_as_in_the_paper(data: str) -> None:
    recipe = named_recipe(f"{data}-densenet-bc-100-12")
    assert (recipe.training.epochs, recipe.training.batch_size) == (300, 64)
    assert (recipe.schedule.name, recipe.schedule.milestones, recipe.schedule.factor) == (
        "multistep",
        (0.5, 0.75),
        0.1,
    )
    assert recipe.data == DataConfig(name=data, augmentation=("normalize", "mirror", "crop"), padding=4)
    assert recipe.model == ModelRecipe(name="densenet-bc-100-12", dropout=0.0)
    assert recipe.training.report == "last"


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_plain_cifar_has_dropout_instead_of_augmentation(data: str) -> None:
    plain = named_recipe(f"{data}-plain-densenet-40-12")
    assert plain.model.dropout == 0.2
    assert plain.data.augmentation == ("normalize",)
    augmented = named_recipe(f"{data}-densenet-40-12").to_dict()
    assert differences(plain.to_dict(), augmented) == ["data.augmentation", "model.dropout", "name"]


def test_svhn_is_trained_as_in_the_paper() -> None:
    recipe = named_recipe("svhn-densenet-100-24")
    assert (recipe.training.epochs, recipe.training.batch_size) == (40, 64)
    assert (recipe.schedule.milestones, recipe.schedule.factor) == ((0.5, 0.75), 0.1)
    assert recipe.data.held_out == 6000
    assert recipe.data.normalization == "scale"
    assert recipe.data.augmentation == ("normalize",)
    assert recipe.model.dropout == 0.2
    assert recipe.training.report == "best"


def test_imagenet_is_trained_as_in_the_paper() -> None:
    recipe = named_recipe("imagenet-densenet121")
    assert (recipe.training.epochs, recipe.training.batch_size) == (90, 256)
    assert recipe.schedule.milestones == pytest.approx((1 / 3, 2 / 3))
    assert recipe.schedule.factor == 0.1
    assert recipe.model.dropout == 0.0
    assert recipe.data.image_size == 224
    assert recipe.data.normalization == "imagenet"
    assert set(recipe.data.augmentation) == {
        "resized-crop",
        "color-jitter",
        "lighting",
        "normalize",
        "mirror",
    }


@pytest.mark.parametrize(
    ("name", "data", "network"),
    [
        ("cifar10-densenet-bc-40-24", "cifar10", "densenet-bc-40-24"),
        ("fashion-mnist-densenet-bc-100-12", "fashion-mnist", "densenet-bc-100-12"),
        ("fashion-mnist-plain-densenet-40-12", "fashion-mnist", "densenet-40-12"),
        ("cifar100-plain-densenet-b-40-12", "cifar100", "densenet-b-40-12"),
        ("svhn-densenet-c-40-12", "svhn", "densenet-c-40-12"),
        ("imagenet-densenet264-48", "imagenet", "densenet264-48"),
    ],
)
def test_recipes_are_named_by_rule(name: str, data: str, network: str) -> None:
    recipe = named_recipe(name)
    assert recipe.name == name
    assert recipe.data.name == data
    assert recipe.model.name == network
    named_config(network)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet-densenet-bc-100-12", "unknown recipe"),
        ("imagenet-plain-densenet121", "unknown recipe"),
        ("svhn-plain-densenet-40-12", "unknown recipe"),
        ("cifar10-densenet121", "unknown recipe"),
        ("cifar10-densenet-bc-101-12", "depth must be .*, got 101"),
        ("cifar10-densenet", "unknown recipe"),
        ("cifar10-densenet-x-40-12", "unknown recipe"),
        ("cifar10-own-densenet-bc-100-12", "unknown recipe"),
        ("cifar10-resnet50", "unknown recipe"),
        ("imagenet-resnet110", "unknown recipe"),
        ("imagenet-own-resnet50", "unknown recipe"),
        ("svhn-plain-resnet110", "unknown recipe"),
        ("cifar10-own-resnet111", "depth must be .*, got 111"),
        ("cifar10-own-", "unknown recipe"),
        ("mnist-densenet-40-12", "did you mean fashion-mnist|unknown recipe"),
        ("digit", "did you mean digits"),
        ("nonsense", "unknown recipe 'nonsense'"),
        ("", "unknown recipe"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_recipe(name)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_json(name: str) -> None:
    fields = named_recipe(name).to_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert DataConfig.from_dict(fields["data"]) == named_recipe(name).data


def test_paths_are_text_in_json() -> None:
    recipe = named_recipe("finetune")
    weights = dataclasses.replace(recipe.model, weights=Path("some/file.pth"))
    fields = dataclasses.replace(recipe, model=weights).to_dict()
    assert fields["model"]["weights"] == "some/file.pth"
    assert fields["data"]["root"] == "data"
    assert fields["data"]["augmentation"] == ["resized-crop", "normalize", "mirror"]


DIGITS = named_recipe("digits")


def changed(field: str, value: Any) -> Recipe:
    """The recipe for digits with another value of "group.field"."""
    group, name = field.split(".")
    return dataclasses.replace(
        DIGITS, **{group: dataclasses.replace(getattr(DIGITS, group), **{name: value})}
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data.root", Path("elsewhere")),
        ("data.download", True),
        ("data.workers", 7),
        ("model.execution", "recompute"),
        ("training.device", "cuda"),
        ("training.compile", True),
        ("training.log_every", 3),
        ("training.checkpoint_minutes", 1.0),
        ("training.tensorboard", False),
    ],
)
def test_a_run_goes_on_elsewhere_and_otherwise(field: str, value: Any) -> None:
    assert differences(DIGITS.to_dict(), changed(field, value).to_dict()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.dropout", 0.3),
        ("model.block_layers", (1, 2, 3)),
        ("data.held_out", 100),
        ("data.augmentation", ("normalize",)),
        ("optimizer.learning_rate", 0.2),
        ("schedule.name", "onecycle"),
        ("training.epochs", 31),
        ("training.seed", 1),
        ("training.precision", "bfloat16"),
        ("training.progressive_sizes", (4, 8)),
        ("optimizer.decay_norms", False),
    ],
)
def test_what_makes_another_run_is_named(field: str, value: Any) -> None:
    assert differences(DIGITS.to_dict(), changed(field, value).to_dict()) == [field]


def test_differences_survive_json_and_unknown_fields() -> None:
    stored = json.loads(json.dumps(DIGITS.to_dict()))
    assert differences(DIGITS.to_dict(), stored) == []
    del stored["training"]["epochs"]
    stored["optimizer"]["betas"] = [0.9, 0.99]
    assert differences(DIGITS.to_dict(), stored) == ["optimizer.betas", "training.epochs"]


def test_a_run_of_an_older_version_goes_on_where_new_fields_have_their_defaults() -> None:
    older = DIGITS.to_dict()
    del older["optimizer"]["decay_norms"]
    del older["training"]["progressive_sizes"]
    del older["training"]["evaluate_every"]
    assert recipe_from_dict(older) == DIGITS
    assert differences(DIGITS.to_dict(), older) == []
    for field, value in (
        ("optimizer.decay_norms", False),
        ("training.progressive_sizes", (4, 8)),
        ("training.evaluate_every", 2),
    ):
        assert differences(changed(field, value).to_dict(), older) == [field]


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (OptimizerRecipe, {"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        (OptimizerRecipe, {"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
        (OptimizerRecipe, {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        (OptimizerRecipe, {"momentum": -0.1}, r"momentum must be in \[0, 1\), got -0.1"),
        (OptimizerRecipe, {"momentum": 0.0}, "nesterov needs a momentum"),
        (OptimizerRecipe, {"weight_decay": -1e-4}, "weight_decay"),
        (OptimizerRecipe, {"gradient_clip": -1}, "gradient_clip"),
        (ScheduleRecipe, {"milestones": (0.75, 0.5)}, "milestones"),
        (ScheduleRecipe, {"milestones": (0, 0.5)}, "milestones"),
        (ScheduleRecipe, {"milestones": (0.5, 150)}, "milestones"),
        (ScheduleRecipe, {"peak": 0}, "peak"),
        (ScheduleRecipe, {"peak": 1}, "peak"),
        (ScheduleRecipe, {"factor": 0}, "factor"),
        (ScheduleRecipe, {"warmup_epochs": -1}, "warmup_epochs"),
        (TrainingRecipe, {"epochs": 0}, "epochs must be at least 1, got 0"),
        (TrainingRecipe, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (TrainingRecipe, {"accumulation": 0}, "accumulation must be at least 1, got 0"),
        (TrainingRecipe, {"log_every": 0}, "log_every must be at least 1, got 0"),
        (TrainingRecipe, {"evaluate_every": 0}, "evaluate_every must be at least 1, got 0"),
        (TrainingRecipe, {"progressive_sizes": (24, 16, 32)}, "must be ascending.*, got 24 16 32"),
        (TrainingRecipe, {"progressive_sizes": (0, 32)}, "at least 1 .*, got 0 32"),
        (TrainingRecipe, {"progressive_sizes": (32, 10**9)}, "at most 4096, got 32 1000000000"),
        (TrainingRecipe, {"progressive_sizes": (16, 32), "epochs": 1}, "one an epoch, got 16 32 for 1"),
        (TrainingRecipe, {"label_smoothing": 1.0}, "label_smoothing"),
        (TrainingRecipe, {"label_smoothing": -0.1}, "label_smoothing"),
        (TrainingRecipe, {"ema_decay": 1.0}, "ema_decay"),
        (TrainingRecipe, {"ema_decay": -0.1}, "ema_decay"),
        (TrainingRecipe, {"mixup": -1}, "mixup"),
        (TrainingRecipe, {"checkpoint_minutes": -1}, "checkpoint_minutes"),
        (TrainingRecipe, {"seed": -1}, "seed"),
    ],
)
def test_a_field_out_of_its_range_is_refused(kind: type, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**fields)


@pytest.mark.parametrize("sizes", [(16,), (16, 24), (16, 32, 28)])
def test_progressive_sizes_that_do_not_end_with_the_images_own_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^progressive_sizes must (end with|be ascending)"):
        named_recipe_with_sizes("cifar10-quick", sizes)


def test_a_folders_own_size_is_that_which_pictures_are_brought_to() -> None:
    recipe = named_recipe_with_sizes("finetune", (128, 160, 224))
    assert recipe.image_size == 224
    smaller = dataclasses.replace(recipe.data, image_size=160)
    with pytest.raises(InputError, match="must end with the images' own 160 pixels, got 128 160 224"):
        dataclasses.replace(recipe, data=smaller)


def named_recipe_with_sizes(name: str, sizes: tuple[int, ...]) -> Recipe:
    recipe = named_recipe(name)
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, progressive_sizes=sizes))


def test_sizes_have_equal_shares_of_the_epochs() -> None:
    recipe = TrainingRecipe(epochs=9, progressive_sizes=(16, 24, 32))
    assert [recipe.training_size(epoch) for epoch in range(9)] == [16] * 3 + [24] * 3 + [32] * 3
    twice = TrainingRecipe(epochs=5, progressive_sizes=(16, 32, 32, 32, 32))
    assert [twice.training_size(epoch) for epoch in range(5)] == [16, 32, 32, 32, 32]
    assert TrainingRecipe(epochs=9).training_size(0) is None


@pytest.mark.parametrize("epochs", [4, 5, 7, 14, 300])
def test_shares_that_are_not_whole_differ_by_an_epoch_at_most(epochs: int) -> None:
    sizes = (16, 20, 24, 32)
    recipe = TrainingRecipe(epochs=epochs, progressive_sizes=sizes)
    chosen = [recipe.training_size(epoch) for epoch in range(epochs)]
    counts = [chosen.count(size) for size in sizes]
    assert chosen == sorted(chosen)
    assert sum(counts) == epochs
    assert max(counts) - min(counts) <= 1


def test_the_last_epoch_is_evaluated_whatever_the_interval() -> None:
    recipe = TrainingRecipe(epochs=7, evaluate_every=3)
    assert [epoch for epoch in range(7) if recipe.is_evaluated(epoch)] == [2, 5, 6]
    assert all(TrainingRecipe(epochs=7).is_evaluated(epoch) for epoch in range(7))


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert OptimizerRecipe(momentum=0.0, nesterov=False).momentum == 0
    assert OptimizerRecipe(name="adamw", momentum=0.0).momentum == 0
    assert ScheduleRecipe(milestones=(0.5, 0.5, 1.0)).milestones[-1] == 1
    assert TrainingRecipe(epochs=1, batch_size=1, seed=0, mixup=0, ema_decay=0).batch_size == 1
