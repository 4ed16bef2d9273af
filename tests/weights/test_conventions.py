import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from small_networks import small_config

from densenets.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.conventions import (
    Normalization,
    choose_classes,
    choose_preprocessing,
    read_class_names,
)

SMALL = small_config(block_layers=(2, 1, 2), num_classes=10)
NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def config_of(**changes: Any) -> DenseNetConfig:
    return dataclasses.replace(SMALL, **changes)


def test_a_named_sets_constants_are_those_of_its_training_images():
    preprocessing, note = choose_preprocessing(SMALL, "cifar10", Normalization())
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    assert preprocessing == Preprocessing(channels=3, image_size=32, resize=32, mean=mean, std=std)
    assert "cifar10's" in note
    assert "if yours were trained with others, give --mean and --std" in note


def test_what_is_given_goes_before_the_sets():
    given = dataclasses.replace(NORMALIZATION, image_size=64)
    preprocessing, note = choose_preprocessing(SMALL, "cifar10", given)
    assert preprocessing == Preprocessing(
        channels=3, image_size=64, resize=64, mean=NORMALIZATION.mean, std=NORMALIZATION.std
    )
    assert note.endswith("by mean 0.5 0.4 0.3 and std 0.2 0.25 0.3: as given")


def test_a_network_for_large_images_gets_imagenets_constants_and_says_so():
    preprocessing, note = choose_preprocessing(config_of(stem="imagenet"), "", Normalization())
    assert (preprocessing.mean, preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (preprocessing.image_size, preprocessing.resize) == (224, 256)
    assert note.endswith("ImageNet's, since no others were given")
    smaller, _ = choose_preprocessing(config_of(stem="imagenet"), "", Normalization(image_size=112))
    assert (smaller.image_size, smaller.resize) == (112, 128)


@pytest.mark.parametrize(
    ("changes", "data", "normalization", "message"),
    [
        (
            {"stem": "imagenet", "in_channels": 1},
            "",
            Normalization(),
            r"give --mean and --std .*\(fashion-mnist\)",
        ),
        ({}, "svhn", Normalization(), "give --mean and --std of pixels in 0 ... 1$"),
        (
            {"in_channels": 1},
            "cifar10",
            Normalization(),
            "cifar10 has images of 3 channels, the network reads 1",
        ),
        ({"in_channels": 4}, "", NORMALIZATION, "mean and std must have 4 values each"),
        ({"spatial_dims": 3}, "cifar10", NORMALIZATION, "cifar10 has pictures, and the network reads 3"),
        ({"spatial_dims": 3, "stem": "imagenet"}, "", Normalization(), "give --mean and --std"),
        ({"in_channels": 1}, "", NORMALIZATION, "mean and std must have 1 values each"),
        ({"stem": "imagenet"}, "", Normalization(image_size=8), "at least 13x13 pixels are needed"),
        ({}, "cifar", Normalization(), "unknown data set 'cifar'; did you mean cifar10"),
    ],
)
def test_constants_that_are_unknown_or_do_not_fit_are_refused(
    changes: dict[str, Any], data: str, normalization: Normalization, message: str
):
    with pytest.raises(InputError, match=message):
        choose_preprocessing(config_of(**changes), data, normalization)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"mean": (125.3, 123.0, 113.9), "std": (63.0, 62.1, 66.7)},
            "divide those of pixels in 0 ... 255 by 255",
        ),
        ({"mean": (0.5,)}, "mean and std go together"),
        ({"std": (0.5,)}, "mean and std go together"),
        ({"mean": (0.5,), "std": (0.0,)}, "mean and std must be"),
        ({"mean": (math.nan,), "std": (0.5,)}, "mean and std must be"),
        ({"mean": (0.5,), "std": (math.inf,)}, "mean and std must be"),
        ({"image_size": -1}, "image_size must be a number of pixels, or 0, got -1"),
    ],
)
def test_constants_that_cannot_be_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        Normalization(**fields)


@pytest.mark.parametrize(
    ("data", "count", "some"),
    [
        ("cifar10", 10, {0: "airplane", 9: "truck"}),
        ("cifar100", 100, {0: "apple", 54: "orchid", 99: "worm"}),
        ("svhn", 10, {3: "3"}),
        ("digits", 10, {9: "9"}),
        ("fashion-mnist", 10, {0: "T-shirt/top", 9: "Ankle boot"}),
        ("imagenet", 1000, {0: "tench", 999: "toilet tissue"}),
    ],
)
def test_names_of_a_set_are_known_without_its_images(data: str, count: int, some: dict[int, str]):
    names, note = choose_classes(config_of(num_classes=count), data, ())
    assert len(set(names)) == count
    assert {label: names[label] for label in some} == some
    assert data in note


def test_classes_of_no_named_set_have_numbers():
    names, note = choose_classes(config_of(num_classes=3), "", ())
    assert names == ("0", "1", "2")
    assert "their numbers" in note


def test_given_names_go_before_the_sets():
    names, _ = choose_classes(config_of(num_classes=2), "cifar10", ("cat", "dog"))
    assert names == ("cat", "dog")


@pytest.mark.parametrize(
    ("data", "given"), [("cifar100", ()), ("", ("cat", "dog")), ("cifar10", ("cat", "dog"))]
)
def test_another_number_of_names_is_refused(data: str, given: tuple[str, ...]):
    with pytest.raises(InputError, match=r"\d+ class names .* do not fit: the network has 10 classes"):
        choose_classes(SMALL, data, given)


def test_names_are_read_from_a_file_or_from_class_folders(tmp_path: Path, picture_folder: Path):
    (tmp_path / "names.txt").write_bytes("\ufeffgrößer\r\n two words \r\n\r\n".encode())
    assert read_class_names(tmp_path / "names.txt") == ("größer", "two words")
    assert read_class_names(picture_folder) == ("one", "two", "zero")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\n\ndog\n", "line 2 of .* is empty; one class name a line"),
        (b"cat\ndog\ncat\n", "line 3 of .* names cat again"),
        (b"cat\n\xff\xfe\n", "cannot be read as text"),
        (b"\n".join(b"%d" % n for n in range(10**5)) + b"\n7\n", "line 100001 of .* names 7 again"),
    ],
)
def test_a_file_of_names_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_class_names(tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"there is no file or folder .*gone"):
        read_class_names(tmp_path / "gone.txt")
