"""From a data config to images, classes and preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenets.data.data_config import DATA_NAMES, MEMORY_DATA, DataConfig
from densenets.data.folder import class_names, scan, whole_images
from densenets.data.named import load_named
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.data.roles import Roles, folder_roles, role_of, training_roles
from densenets.data.sources import FileImages, Images, MemoryImages, held_out_split, stratified_split
from densenets.data.splits import DataSplits, class_difference, record_of
from densenets.errors import InputError

_STATISTICS_CHUNK = 10_000  # images whose pixels are summed at once, to bound memory


def load_data(config: DataConfig) -> DataSplits:
    """Load what a config names, from disk.

    Raises:
        InputError: data that is missing, damaged or empty, of one class alone, or nothing to evaluate on.
    """
    return _memory_splits(config) if config.in_memory else _folder_splits(config)


@dataclass(frozen=True)
class EvaluationImages:
    """Images that a network is evaluated on.

    Attributes:
        images: with the labels of the network's classes.
        split: the role that they play: training, validation or test; "all" of a folder that plays none.
        source: where they lie, for people.
    """

    images: Images
    split: str
    source: str


def load_evaluation_images(
    data: str,
    config: DataConfig | None,
    root: Path,
    classes: tuple[str, ...],
    *,
    skip_broken: bool,
    reported: Any = None,
) -> EvaluationImages:
    """The images to evaluate a network on: the test images if there are any, else the validation images.

    Args:
        data: a named set, a folder of class folders (or with test/ or val/ of such), or "" for `config`'s.
        config: what the network was trained on, if that is known.
        root: where a named set lies; of `config`, its own.
        classes: those that the network knows.
        skip_broken: leave out images that cannot be decoded, naming them.
        reported: what a checkpoint notes of the images that its run reported; only `config`'s are compared.

    Raises:
        InputError: the data is missing, its classes are not the network's, or the images are not those that
            the run reported.
    """
    if not data and config is None:
        raise InputError("this checkpoint does not say what it was trained on; name the --data")
    if data in MEMORY_DATA:
        # A converted checkpoint whose classes had no names has their numbers.
        unnamed = config is None and classes == tuple(str(label) for label in range(len(classes)))
        return _own_images(DataConfig(name=data, root=root), () if unnamed else classes, len(classes), None)
    if data:
        folder = root if data == "imagenet" else Path(data)
        if not folder.is_dir():
            raise InputError(f"--data {data} is neither a folder nor one of {', '.join(DATA_NAMES[:-1])}")
        return _folder_images(folder, classes, skip_broken=skip_broken)
    assert config is not None
    config = dataclasses.replace(config, skip_broken=skip_broken or config.skip_broken)
    return _own_images(config, classes, len(classes), reported)


def _own_images(config: DataConfig, classes: tuple[str, ...], count: int, reported: Any) -> EvaluationImages:
    splits = _test_split(config) or load_data(config)
    if len(splits.classes) != count:
        raise InputError(f"{_place(config)} has {len(splits.classes)} classes, the checkpoint knows {count}")
    if classes and splits.classes != classes:
        raise InputError(
            f"the classes of {_place(config)} are not the checkpoint's: "
            f"{class_difference(splits.classes, classes)}; name other images with --data"
        )
    record = splits.records[splits.reported]
    if reported is not None and not record.matches(reported):
        raise InputError(
            f"the {splits.reported} images in {record.source} are not those that the run reported; "
            "put those back, or name what there is now with --data"
        )
    return EvaluationImages(splits.images_of(splits.reported), splits.reported, record.source)


def _test_split(config: DataConfig) -> DataSplits | None:
    """The test images of a folder alone, where it has some: the others need not be looked through."""
    roles = Roles() if config.in_memory else folder_roles(config.root)
    if not (roles.training and roles.test):
        return None
    classes = class_names(roles.training)
    found = {"test": (scan(roles.test, classes, skip_broken=False), str(roles.test))}
    return _splits_of(found, config, classes)


def _folder_images(folder: Path, classes: tuple[str, ...], *, skip_broken: bool) -> EvaluationImages:
    roles = folder_roles(folder)
    if roles.training and not (roles.test or roles.validation):
        raise InputError(
            f"{folder} has a train folder and none to evaluate on; for its own images name {roles.training}"
        )
    chosen = roles.test or roles.validation or folder
    split = "test" if roles.test else "validation" if roles.validation else role_of(folder.name) or "all"
    return EvaluationImages(scan(chosen, classes, skip_broken=skip_broken), split, str(chosen))


def _place(config: DataConfig) -> str:
    return config.name if config.in_memory else str(config.root)


def _memory_splits(config: DataConfig) -> DataSplits:
    data = load_named(config.name, config.root, download=config.download)
    kept, held_out = held_out_split(len(data.training), config.held_out, config.split_seed)
    _check_held_out(config, len(data.training), len(kept), len(held_out))
    if config.training_images:
        # Drawn anew, so that the images held out stay the same.
        _, drawn = held_out_split(len(kept), config.training_images, config.split_seed + 1)
        kept = kept[drawn]
    training, validation = data.training.subset(kept), data.training.subset(held_out)
    _, channels, side, _ = data.training.pixels.shape
    mean, std = (0.0,) * channels, (1.0,) * channels
    if config.normalization == "channel":
        # Over all training images, held out or not, so that the constants don't depend on the split.
        mean, std = channel_statistics(data.training)
    elif config.normalization == "imagenet":
        constants = imagenet_preprocessing(channels, side, scale_only=False)
        mean, std = constants.mean, constants.std
    parts = {
        "training": (training, f"{config.name}'s training set"),
        "test": (data.test, f"{config.name}'s test set"),
    }
    if config.held_out:
        parts["validation"] = (validation, f"{config.name}'s training set, held out")
    return DataSplits(
        training,
        validation if config.held_out else None,
        data.test,
        data.classes,
        Preprocessing(channels=channels, image_size=side, resize=side, mean=mean, std=std),
        {
            role: record_of(parts[role][0], parts[role][0], config.root, parts[role][1], data.classes)
            for role in ("training", "validation", "test")
            if role in parts
        },
    )


def _folder_splits(config: DataConfig) -> DataSplits:
    roles = training_roles(config.root)
    assert roles.training is not None
    classes = class_names(roles.training)
    if len(classes) < 2:
        raise InputError(
            f"{roles.training} holds one class folder alone ({classes[0]}); a network tells two or more apart"
        )
    if not (config.held_out or roles.validation or roles.test):
        raise InputError(
            f"{config.root} has no val folder and no test folder to evaluate on; of a new run some "
            "images can be held out with --data.held-out 0.2"
        )
    splits = _splits_of(_file_images(config, roles, classes), config, classes)
    if splits.records["training"].absent:
        raise InputError(
            f"no image of class {', '.join(splits.records['training'].absent[:5])} in {roles.training} can "
            "be decoded; add some or remove the folder"
        )
    return dataclasses.replace(splits, unused=roles.others)


def _splits_of(
    found: Mapping[str, tuple[FileImages, str]], config: DataConfig, classes: tuple[str, ...]
) -> DataSplits:
    """Splits of the files of each role, without those that cannot be decoded.

    The roles were given to all files, so that leaving some out changes no image's role or place.
    """
    images, records, places = {}, {}, {}
    for role, (files, source) in found.items():
        places[role] = whole_images(files) if config.skip_broken else torch.arange(len(files))
        if not len(places[role]):
            raise InputError(f"no image in {source} can be decoded")
        images[role] = files.subset(places[role]) if config.skip_broken else files
        records[role] = record_of(files, images[role], config.root, source, classes)
    training = images.get("training", FileImages((), torch.empty(0, dtype=torch.int64)))
    return DataSplits(
        training,
        images.get("validation"),
        images.get("test"),
        classes,
        imagenet_preprocessing(
            config.channels, config.image_size, scale_only=config.normalization == "scale"
        ),
        records,
        left_out=_others(places["training"], len(found["training"][0])) if "training" in found else (),
    )


def _file_images(
    config: DataConfig, roles: Roles, classes: tuple[str, ...]
) -> dict[str, tuple[FileImages, str]]:
    """All files of each role, and the folders that they lie in, for people."""
    assert roles.training is not None
    training, held_out = _hold_out(scan(roles.training, classes, skip_broken=False), config, classes)
    found = {"training": (training, str(roles.training))}
    validation, sources = held_out, [f"{roles.training}, held out"] if held_out is not None else []
    if roles.validation:
        own = scan(roles.validation, classes, skip_broken=False)
        validation = own.joined(validation) if validation is not None else own
        sources.insert(0, str(roles.validation))
    if validation is not None:
        found["validation"] = (validation, " and in ".join(sources))
    if roles.test:
        found["test"] = (scan(roles.test, classes, skip_broken=False), str(roles.test))
    return found


def _hold_out(
    images: FileImages, config: DataConfig, classes: tuple[str, ...]
) -> tuple[FileImages, FileImages | None]:
    """Images to train on, and images held out (None if none shall be), each class in proportion."""
    count, held_out = len(images), config.held_out
    number = round(held_out * count) if held_out < 1 else int(held_out)
    if 0 < number < len(classes) and held_out < 1:
        number = len(classes)  # at least one of each
    _check_held_out(config, count, count - number, number)
    kept, validation = images, None
    if number:
        single = [classes[label] for label, n in enumerate(torch.bincount(images.labels).tolist()) if n == 1]
        if single:
            raise InputError(
                f"class {', '.join(single[:5])} of {config.root} has one image, which cannot be held out "
                "and trained on too; add images, or remove the class"
            )
        _check_share("held_out", number, count, len(classes), staying=1)
        stay, out = stratified_split(images.labels, number, config.split_seed, staying=1)
        kept, validation = images.subset(stay), images.subset(out)
    if config.training_images:
        _check_share("training_images", config.training_images, len(kept), len(classes), staying=0)
        # Drawn anew, so that the images held out stay the same.
        _, drawn = stratified_split(kept.labels, config.training_images, config.split_seed + 1, staying=0)
        kept = kept.subset(drawn)
    return kept, validation


def _check_held_out(config: DataConfig, count: int, kept: int, held_out: int) -> None:
    if kept <= 0:
        raise InputError(f"held_out {config.held_out:g} leaves nothing to train on; there are {count} images")
    if config.held_out and not held_out:
        raise InputError(f"held_out {config.held_out:g} of {count} images is none; raise it")
    if config.training_images > kept:
        raise InputError(
            f"training_images must be at most the {kept} that there are to train on, got "
            f"{config.training_images}"
        )


def _check_share(field: str, number: int, count: int, classes: int, *, staying: int) -> None:
    if not classes <= number <= count - staying * classes:
        raise InputError(
            f"{field} must make {classes} to {count - staying * classes} of {count} images, so that each of "
            f"the {classes} classes has one of them{' and one to train on' if staying else ''}, got {number}"
        )


def _others(places: Tensor, count: int) -> tuple[int, ...]:
    return tuple(sorted(set(range(count)) - set(places.tolist()))) if len(places) < count else ()


def channel_statistics(images: MemoryImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, of pixels in 0 ... 1."""
    counts = torch.stack(
        [
            torch.stack([torch.bincount(c.flatten(), minlength=256) for c in chunk.unbind(dim=1)])
            for chunk in images.pixels.cpu().split(_STATISTICS_CHUNK)
        ]
    ).sum(dim=0)  # C x 256: how often each channel has each value; exact, whatever the set's size
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = (shares * values).sum(dim=1)
    std = ((shares * values**2).sum(dim=1) - mean**2).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
