"""Sizes of the named data sets, known before they are read, and steps per epoch. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from densenets.data.data_config import DataConfig


@dataclass(frozen=True)
class DatasetInfo:
    """Numbers of images and classes of a data set, and the shape of its images.

    Attributes:
        training: number of training images.
        test: number of test images.
        classes: number of classes.
        channels: 1 (grey) or 3 (colour).
        side: height and width in pixels of the images as networks read them.
    """

    training: int
    test: int
    classes: int
    channels: int
    side: int


def training_count(config: DataConfig) -> int | None:
    """Number of images that a run trains on; None where the set's size is not known before it is read."""
    info = DATASET_INFO.get(config.name)
    if info is None:
        return None
    if config.training_images:
        return config.training_images
    held_out = config.held_out * info.training if config.held_out < 1 else config.held_out
    return info.training - round(held_out)


def steps_per_epoch(images: int, batch_size: int, ranks: int = 1) -> int:
    """Number of steps of an epoch; the images that fill no whole global batch make a smaller last step.

    They are dropped where a rank got under 2 of them, from which batch normalisation can learn nothing.
    """
    full_steps, remaining = divmod(images, batch_size)
    return full_steps + (remaining >= 2 * ranks)


DATASET_INFO = {
    "digits": DatasetInfo(1437, 360, 10, 1, 8),
    "fashion-mnist": DatasetInfo(60_000, 10_000, 10, 1, 28),
    "cifar10": DatasetInfo(50_000, 10_000, 10, 3, 32),
    "cifar100": DatasetInfo(50_000, 10_000, 100, 3, 32),
    "svhn": DatasetInfo(73_257 + 531_131, 26_032, 10, 3, 32),
    "imagenet": DatasetInfo(1_281_167, 50_000, 1000, 3, 224),
}
