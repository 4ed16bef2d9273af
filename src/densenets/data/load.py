"""Loading of what a data config names: images of each split, classes and preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenets.data.data_config import DATA_NAMES, MEMORY_DATA, DataConfig
from densenets.data.datasets import load_dataset
from densenets.data.folder import class_names, decodable_images, scan
from densenets.data.image_sets import FileImages, Images, MemoryImages
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.data.random_split import held_out_split, stratified_split
from densenets.data.split_folders import SplitFolders, find_split_folders, find_training_splits, split_of_name
from densenets.data.splits import DataSplits, class_difference, record_of
from densenets.errors import InputError

_STATISTICS_CHUNK = 10_000  # images whose pixels are summed at once, to bound memory


def load_data(config: DataConfig) -> DataSplits:
    """Load the training, validation and test images that a config names.

    Raises:
        InputError: the data is missing, damaged or empty, has one class only, or nothing to evaluate on.
    """
    return _memory_splits(config) if config.in_memory else _folder_splits(config)


@dataclass(frozen=True)
class EvaluationImages:
    """Images that a network is evaluated on.

    Attributes:
        images: with the labels of the network's classes.
        split: training, validation or test; "all" for a folder that is no split.
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
        config: the data that the network was trained on, if that is known.
        root: folder of a named set; `config` has its own.
        classes: names of the network's classes.
        skip_broken: leave out images that cannot be decoded, naming them.
        reported: a checkpoint's record of the images that its run reported; only `config`'s are compared.

    Raises:
        InputError: the data is missing, its classes are not the network's, or the images are not those that
            the run reported.
    """
    if not data and config is None:
        raise InputError("this checkpoint does not say what it was trained on; name the --data")
    if data in MEMORY_DATA:
        # A converted checkpoint whose classes had no names has their numbers.
        unnamed = config is None and classes == tuple(str(label) for label in range(len(classes)))
        config = DataConfig(name=data, root=root)
        return _config_images(config, () if unnamed else classes, len(classes), None)
    if data:
        folder = root if data == "imagenet" else Path(data)
        if not folder.is_dir():
            raise InputError(f"--data {data} is neither a folder nor one of {', '.join(DATA_NAMES[:-1])}")
        return _folder_images(folder, classes, skip_broken=skip_broken)
    assert config is not None
    config = dataclasses.replace(config, skip_broken=skip_broken or config.skip_broken)
    return _config_images(config, classes, len(classes), reported)


def _config_images(
    config: DataConfig, classes: tuple[str, ...], count: int, reported: Any
) -> EvaluationImages:
    """The images that a config's runs report; `classes` is empty where the network's have no names."""
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
    """Only the test images of a folder, where it has some, so that the others need not be listed."""
    folders = SplitFolders() if config.in_memory else find_split_folders(config.root)
    if not (folders.training and folders.test):
        return None
    classes = class_names(folders.training)
    files = scan(folders.test, classes, skip_broken=False)
    return _data_splits({"test": (files, str(folders.test))}, config, classes)


def _folder_images(folder: Path, classes: tuple[str, ...], *, skip_broken: bool) -> EvaluationImages:
    folders = find_split_folders(folder)
    if folders.training and not (folders.test or folders.validation):
        raise InputError(
            f"{folder} has a train folder and none to evaluate on; for its own images name {folders.training}"
        )
    chosen = folders.test or folders.validation or folder
    split = (
        "test"
        if folders.test
        else "validation"
        if folders.validation
        else split_of_name(folder.name) or "all"
    )
    return EvaluationImages(scan(chosen, classes, skip_broken=skip_broken), split, str(chosen))


def _place(config: DataConfig) -> str:
    return config.name if config.in_memory else str(config.root)


def _memory_splits(config: DataConfig) -> DataSplits:
    data = load_dataset(config.name, config.root, download=config.download)
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
    split_images = {
        "training": (training, f"{config.name}'s training set"),
        "test": (data.test, f"{config.name}'s test set"),
    }
    if config.held_out:
        split_images["validation"] = (validation, f"{config.name}'s training set, held out")
    return DataSplits(
        training,
        validation if config.held_out else None,
        data.test,
        data.classes,
        Preprocessing(channels=channels, image_size=side, resize=side, mean=mean, std=std),
        {
            split: record_of(images, images, config.root, source, data.classes)
            for split in ("training", "validation", "test")
            if split in split_images
            for images, source in [split_images[split]]
        },
    )


def _folder_splits(config: DataConfig) -> DataSplits:
    folders = find_training_splits(config.root)
    assert folders.training is not None
    classes = class_names(folders.training)
    if len(classes) < 2:
        raise InputError(
            f"{folders.training} holds one class folder alone ({classes[0]}); "
            "a network tells two or more apart"
        )
    if not (config.held_out or folders.validation or folders.test):
        raise InputError(
            f"{config.root} has no val folder and no test folder to evaluate on; of a new run some "
            "images can be held out with --data.held-out 0.2"
        )
    splits = _data_splits(_file_images(config, folders, classes), config, classes)
    if splits.records["training"].absent:
        raise InputError(
            f"no image of class {', '.join(splits.records['training'].absent[:5])} in {folders.training} can "
            "be decoded; add some or remove the folder"
        )
    return dataclasses.replace(splits, unused=folders.unused)


def _data_splits(
    files_of: Mapping[str, tuple[FileImages, str]], config: DataConfig, classes: tuple[str, ...]
) -> DataSplits:
    """The splits of a folder, without the images that cannot be decoded.

    The images were split before, so that leaving some out changes no other image's split or place.

    Args:
        files_of: split -> all its files, and the folder they lie in, for people.
        config: of the folder.
        classes: names of all classes.
    """
    images, records, indices = {}, {}, {}
    for split, (files, source) in files_of.items():
        indices[split] = decodable_images(files) if config.skip_broken else torch.arange(len(files))
        if not len(indices[split]):
            raise InputError(f"no image in {source} can be decoded")
        images[split] = files.subset(indices[split]) if config.skip_broken else files
        records[split] = record_of(files, images[split], config.root, source, classes)
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
        left_out=_absent_indices(indices["training"], len(files_of["training"][0]))
        if "training" in files_of
        else (),
    )


def _file_images(
    config: DataConfig, folders: SplitFolders, classes: tuple[str, ...]
) -> dict[str, tuple[FileImages, str]]:
    """Split -> all its files, and the folder they lie in, for people."""
    assert folders.training is not None
    training, held_out = _hold_out(scan(folders.training, classes, skip_broken=False), config, classes)
    files_of = {"training": (training, str(folders.training))}
    validation, sources = held_out, [f"{folders.training}, held out"] if held_out is not None else []
    if folders.validation:
        own = scan(folders.validation, classes, skip_broken=False)
        validation = own.joined(validation) if validation is not None else own
        sources.insert(0, str(folders.validation))
    if validation is not None:
        files_of["validation"] = (validation, " and in ".join(sources))
    if folders.test:
        files_of["test"] = (scan(folders.test, classes, skip_broken=False), str(folders.test))
    return files_of


def _hold_out(
    images: FileImages, config: DataConfig, classes: tuple[str, ...]
) -> tuple[FileImages, FileImages | None]:
    """Images to train on and images held out (None if held_out is 0), every class in proportion."""
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


def _absent_indices(indices: Tensor, count: int) -> tuple[int, ...]:
    """The numbers 0 ... `count` - 1 that are not in `indices`, ascending."""
    return tuple(sorted(set(range(count)) - set(indices.tolist()))) if len(indices) < count else ()


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
