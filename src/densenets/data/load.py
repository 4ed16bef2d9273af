"""From a data config to images, classes and preprocessing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from densenets.data.config import DATA_NAMES, MEMORY_DATA, DataConfig
from densenets.data.folder import class_names, scan, training_folder, validation_folder
from densenets.data.named import load_named
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.data.sources import Images, MemoryImages, held_out_split
from densenets.errors import InputError

_STATISTICS_CHUNK = 10_000  # images whose pixels are summed at once, to bound memory


@dataclass(frozen=True)
class DataSplits:
    """What a run reads.

    Attributes:
        training: the images that are trained on.
        validation: what is watched while training: the held-out images, or the test set if none are.
        test: what the result is reported on.
        classes: their names; a label is a place in it.
        preprocessing: what evaluation and prediction do to an image.
    """

    training: Images
    validation: Images
    test: Images
    classes: tuple[str, ...]
    preprocessing: Preprocessing


def load_data(config: DataConfig) -> DataSplits:
    """Load what a config names, from disk.

    Raises:
        InputError: data that is missing, damaged or empty, or nothing to evaluate on.
    """
    if config.in_memory:
        return _memory_splits(config)
    root = training_folder(config.root)
    classes = class_names(root)
    training: Images = scan(root, classes, skip_broken=config.skip_broken)
    preprocessing = imagenet_preprocessing(
        config.channels, config.image_size, scale_only=config.normalization == "scale"
    )
    test_folder = validation_folder(config.root)
    if test_folder is None and not config.held_out:
        raise InputError(
            f"{config.root} has no val folder to evaluate on; hold some images out with --data.held-out 0.2"
        )
    training, validation = _hold_out(training, config)
    test = validation if test_folder is None else scan(test_folder, classes, skip_broken=config.skip_broken)
    return DataSplits(training, validation if config.held_out else test, test, classes, preprocessing)


def load_test_images(
    data: str, config: DataConfig | None, root: Path, classes: tuple[str, ...], *, skip_broken: bool
) -> Images:
    """The images to evaluate a network on.

    Args:
        data: a named set, a folder of class folders (or with a val/ of such), or "" for those of `config`.
        config: what the network was trained on, if that is known.
        root: where a named set lies; of `config`, its own.
        classes: those that the network knows.
        skip_broken: leave out images that cannot be decoded, naming them.

    Raises:
        InputError: the data is missing, or its classes are not the network's.
    """
    if not data and config is None:
        raise InputError("this checkpoint does not say what it was trained on; name the --data")
    if data in MEMORY_DATA:
        config = DataConfig(name=data, root=root)
    elif data:
        folder = root if data == "imagenet" else Path(data)
        if not folder.is_dir():
            raise InputError(f"--data {data} is neither a folder nor one of {', '.join(DATA_NAMES[:-1])}")
        return scan(validation_folder(folder) or folder, classes, skip_broken=skip_broken)
    assert config is not None
    splits = load_data(dataclasses.replace(config, skip_broken=skip_broken or config.skip_broken))
    if len(splits.classes) != len(classes):
        raise InputError(
            f"{config.name} has {len(splits.classes)} classes, the checkpoint knows {len(classes)}"
        )
    return splits.test


def _memory_splits(config: DataConfig) -> DataSplits:
    data = load_named(config.name, config.root, download=config.download)
    training, held_out = _hold_out(data.training, config)
    _, channels, side, _ = data.training.pixels.shape
    mean, std = (0.0,) * channels, (1.0,) * channels
    if config.normalization == "channel":
        # Over all training images, held out or not, so that the constants don't depend on the split.
        mean, std = channel_statistics(data.training)
    elif config.normalization == "imagenet":
        constants = imagenet_preprocessing(channels, side, scale_only=False)
        mean, std = constants.mean, constants.std
    return DataSplits(
        training,
        held_out if config.held_out else data.test,
        data.test,
        data.classes,
        Preprocessing(channels=channels, image_size=side, resize=side, mean=mean, std=std),
    )


def _hold_out(training: Images, config: DataConfig) -> tuple[Images, Images]:
    kept, held_out = held_out_split(len(training), config.held_out, config.split_seed)
    if not len(kept):
        raise InputError(
            f"held_out {config.held_out:g} leaves nothing to train on; there are {len(training)} images"
        )
    if config.held_out and not len(held_out):
        raise InputError(f"held_out {config.held_out:g} of {len(training)} images is none; raise it")
    number = config.training_images
    if number > len(kept):
        raise InputError(f"training_images {number} cannot be: there are {len(kept)} to train on")
    if number:
        # Drawn anew, so that the images held out stay the same.
        _, drawn = held_out_split(len(kept), number, config.split_seed + 1)
        kept = kept[drawn]
    return training.subset(kept), training.subset(held_out)


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
