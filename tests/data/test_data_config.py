from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from densenets.data.data_config import DATA_NAMES, DataConfig
from densenets.errors import InputError

IN_MEMORY = {"name": "cifar10"}
FOLDER = {"name": "folder", "normalization": "imagenet"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "cifar11"}, "unknown data set 'cifar11'; did you mean cifar10"),
        ({"name": "cifar10", "augmentation": ("normalise",)}, "did you mean normalize"),
        ({"name": "cifar10", "augmentation": ()}, "normalize exactly once"),
        ({"name": "cifar10", "augmentation": ("normalize", "normalize")}, "normalize exactly once"),
        (FOLDER | {"augmentation": ("normalize", "color-jitter")}, "come before the other"),
        (FOLDER | {"augmentation": ("mirror", "resized-crop", "normalize")}, "come before the other"),
        (FOLDER | {"augmentation": ("normalize", "lighting")}, "lighting comes before normalize"),
        ({"name": "cifar10", "augmentation": ("resized-crop", "normalize")}, "is for image folders"),
        ({"name": "cifar10", "held_out": -0.1}, "held_out"),
        ({"name": "cifar10", "held_out": 1.5}, "held_out"),
        ({"name": "folder"}, "normalization channel"),
        ({"name": "imagenet"}, "normalization channel"),
        (FOLDER | {"channels": 2}, r"channels must be 1 \(grey\) or 3 \(colour\), got 2"),
        (FOLDER | {"image_size": 0}, "image_size"),
        (FOLDER | {"workers": -1}, "workers"),
        ({"name": "cifar10", "padding": -1}, "padding"),
    ],
)
def test_a_config_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataConfig(**fields)


def test_a_step_that_would_do_nothing_is_refused() -> None:
    # Only the workers that decode files jitter colours; a set in memory has none.
    with pytest.raises(InputError, match="color-jitter"):
        DataConfig(name="cifar10", augmentation=("color-jitter", "normalize"))


@pytest.mark.parametrize("held_out", [0, 0.5, 0.999, 1, 5000, 5000.0])
def test_held_out_is_a_share_or_a_whole_number(held_out: float) -> None:
    assert DataConfig(name="cifar10", held_out=held_out).held_out == held_out


def test_the_papers_orders_of_augmentation_are_allowed() -> None:
    small = ("normalize", "mirror", "crop")
    large = ("resized-crop", "color-jitter", "lighting", "normalize", "mirror")
    assert DataConfig(name="cifar10", augmentation=small).augmentation == small
    assert DataConfig(**FOLDER, augmentation=large).augmentation == large


def test_sets_in_memory_are_told_from_folders() -> None:
    on_disk = {name for name in DATA_NAMES if not DataConfig(name=name, normalization="scale").in_memory}
    assert on_disk == {"imagenet", "folder"}


def test_a_config_comes_back_from_json() -> None:
    config = DataConfig(
        name="folder",
        root=Path("some/where"),
        augmentation=("resized-crop", "normalize", "mirror"),
        normalization="imagenet",
        held_out=0.25,
        channels=1,
        skip_broken=True,
    )
    text = json.dumps({**dataclasses.asdict(config), "root": str(config.root)})
    assert DataConfig.from_dict(json.loads(text)) == config


def test_a_field_that_an_older_version_did_not_have_has_its_default() -> None:
    config = DataConfig.from_dict({"name": "digits", "root": "data", "augmentation": ["normalize"]})
    assert config == DataConfig(name="digits")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "digits", "root": "data", "augmentation": ["normalize"], "colour": "red"},
        {"root": "data", "augmentation": ["normalize"]},
        {"name": "digits", "root": "data", "augmentation": ["normalize"], "padding": "4"},
        {"name": "digits", "root": "data", "augmentation": None},
        {"name": "digits", "root": "data", "augmentation": ["turn"]},
        {"name": "digits", "root": 3},
        {"name": "digits", "root": "da\0ta"},
        {"name": "digits", "workers": True},
        {"name": "digits", "image_size": 10**9},
        {"name": ["digits"]},
    ],
)
def test_fields_that_are_no_config_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        DataConfig.from_dict(fields)
