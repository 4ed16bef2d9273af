"""Class names and pixel normalisation of other programs' weights, which their files do not hold.

One module was trained with different constants by different people, so keys do not tell them either. The
user's values come first, then those of the named data set, and a note says which were taken.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

from densenets.data.data_config import MEMORY_DATA
from densenets.data.dataset_info import DATASET_INFO
from densenets.data.folder import class_names
from densenets.data.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    imagenet_preprocessing,
)
from densenets.data.split_folders import training_folder
from densenets.errors import InputError, unknown_name
from densenets.files import read_text
from densenets.models.densenet_config import DenseNetConfig

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
# Mean and deviation of each channel of the training images, of pixels in 0 ... 1, as programs round them.
# Absent are digits and svhn: of the latter most programs, and the paper, take other constants than these.
_NORMALIZATIONS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
}


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """The user's normalisation and size of a network's input, as far as given.

    Attributes:
        mean: per channel, of pixels in 0 ... 1; () if not given.
        std: per channel, of pixels in 0 ... 1; () if not given.
        image_size: side of the input in pixels; 0 if not given.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    image_size: int = 0

    def __post_init__(self) -> None:
        if bool(self.mean) != bool(self.std):
            raise InputError("mean and std go together; give both, or neither")
        # Written so that NaN is refused too.
        if not all(0 <= value <= 1 for value in self.mean) or not all(0 < value <= 1 for value in self.std):
            raise InputError(
                f"mean and std must be of pixels in 0 ... 1, got {self.mean} and {self.std}; "
                "divide those of pixels in 0 ... 255 by 255"
            )
        if self.image_size < 0:
            raise InputError(f"image_size must be a number of pixels, or 0, got {self.image_size}")


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes, in the order of the logits.

    Args:
        path: a text file of one name a line, or the folder of class folders that was trained on.

    Raises:
        InputError: there is neither, a line is empty, or two are alike.
    """
    if path.is_dir():
        return class_names(training_folder(path))
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    names = tuple(line.strip() for line in read_text(path).rstrip().splitlines())
    earlier: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in earlier:
            fault = f"names {name:.100} again" if name else "is empty"
            raise InputError(f"line {number} of {path} {fault}; one class name a line is needed")
        earlier.add(name)
    return names


def choose_classes(config: DenseNetConfig, data: str, given: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names of a network's classes, and a note of where they come from.

    Args:
        config: the network.
        data: the named set that it was trained on; "" if not given.
        given: the user's names, which take precedence over the set's.

    Raises:
        InputError: the network has another number of classes, or no set has this name.
    """
    names, source = given, "as given"
    if data:
        _check_known(data)
    if not names and data:
        names, source = _class_names_of(data), f"those of {data}"
    if not names:
        names, source = tuple(str(label) for label in range(config.num_classes)), "their numbers"
    if not config.num_classes and not names:
        return (
            (),
            "it has no classes, and gives features; --new-head N puts a head on it",
        )
    if len(names) != config.num_classes:
        raise InputError(
            f"{len(names)} class names ({source}) do not fit: the network has {config.num_classes} classes"
        )
    return names, f"names of the classes: {source} ({names[0]}, ...)"


def choose_preprocessing(
    config: DenseNetConfig, data: str, normalization: Normalization
) -> tuple[Preprocessing, str]:
    """A network's preprocessing, and a note of where its constants come from.

    With neither constants nor a named set, a network for ImageNet's large images gets ImageNet's constants,
    which nearly all programs share. For CIFAR's there are several in use, and to take one for another costs
    about half a percent of error, so these have to be said.

    Args:
        config: the network.
        data: the named set that it was trained on; "" if not given.
        normalization: the user's constants and size, which take precedence over the set's.

    Raises:
        InputError: the constants are not known, or do not fit the network.
    """
    channels = config.in_channels
    if data and config.spatial_dims != 2:
        raise InputError(f"{data} has pictures, and the network reads {config.spatial_dims} dimensions")
    if data:
        _check_known(data)
        if DATASET_INFO[data].channels != channels:
            raise InputError(
                f"{data} has images of {DATASET_INFO[data].channels} channels, the network reads {channels}"
            )
    mean, std, source = _constants(config, data, normalization)
    size = normalization.image_size or (DATASET_INFO[data].side if data else config.default_size)
    config.check_input((channels, *[size] * config.spatial_dims))
    whole = data in MEMORY_DATA or (not data and config.stem == "cifar")
    resize = size if whole else imagenet_preprocessing(channels, size, scale_only=True).resize
    preprocessing = Preprocessing(channels=channels, image_size=size, resize=resize, mean=mean, std=std)
    return preprocessing, (
        f"pixels in 0 ... 1 are normalised by mean {_numbers(mean)} and std {_numbers(std)}: {source}"
    )


def for_channels(preprocessing: Preprocessing, channels: int) -> Preprocessing:
    """The preprocessing of a network whose first convolution was adapted to other channels.

    One channel has the mean of the others' constants, several have theirs in turn.
    """

    def adapted(values: tuple[float, ...]) -> tuple[float, ...]:
        if channels == 1:
            return (sum(values) / len(values),)
        return tuple(itertools.islice(itertools.cycle(values), channels))

    mean, std = adapted(preprocessing.mean), adapted(preprocessing.std)
    return dataclasses.replace(preprocessing, channels=channels, mean=mean, std=std)


def _constants(
    config: DenseNetConfig, data: str, normalization: Normalization
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    if normalization.mean:
        return normalization.mean, normalization.std, "as given"
    if data in _NORMALIZATIONS:
        source = "of its training images; if yours were trained with others, give --mean and --std"
        return *_NORMALIZATIONS[data], source if data == "imagenet" else f"{data}'s, {source}"
    if not data and config.stem == "imagenet" and config.in_channels == 3 and config.spatial_dims == 2:
        return IMAGENET_MEAN, IMAGENET_STD, "ImageNet's, since no others were given"
    named = " or ".join(name for name in _NORMALIZATIONS if DATASET_INFO[name].channels == config.in_channels)
    raise InputError(
        "how pixels were normalised does not stand in the weights; give --mean and --std of pixels in 0 ... 1"
        + ("" if data else f", or name the --data for its own ({named})")
    )


def _check_known(data: str) -> None:
    if data not in DATASET_INFO:
        raise unknown_name("data set", data, DATASET_INFO)


def _class_names_of(data: str) -> tuple[str, ...]:
    if data == "fashion-mnist":
        from torchvision.datasets import FashionMNIST

        return tuple(FashionMNIST.classes)
    if data == "imagenet":
        from torchvision.models import DenseNet121_Weights

        return tuple(DenseNet121_Weights.IMAGENET1K_V1.meta["categories"])
    return tuple({"cifar10": _CIFAR10, "cifar100": _CIFAR100}.get(data, "0 1 2 3 4 5 6 7 8 9").split())


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
