"""What is known of the named data sets before they are read. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from densenets.data.data_config import DataConfig


@dataclass(frozen=True)
class DataFacts:
    """A data set's size.

    Attributes:
        training: images to train on.
        test: images to test on.
        classes: how many.
        channels: 1 (grey) or 3 (colour).
        side: pixels, of the images as networks read them.
    """

    training: int
    test: int
    classes: int
    channels: int
    side: int


def training_count(config: DataConfig) -> int | None:
    """Images that a run trains on; None where the set's size is not known before it is read."""
    facts = DATA_FACTS.get(config.name)
    if facts is None:
        return None
    if config.training_images:
        return config.training_images
    share = config.held_out * facts.training if config.held_out < 1 else config.held_out
    return facts.training - round(share)


def steps_of_epoch(images: int, batch_size: int, ranks: int = 1) -> int:
    """Steps of an epoch; the images that fill no whole global batch are a smaller step.

    Unless a rank got under 2 of them, from which batch normalisation can learn nothing.
    """
    full, rest = divmod(images, batch_size)
    return full + (rest >= 2 * ranks)


DATA_FACTS = {
    "digits": DataFacts(1437, 360, 10, 1, 8),
    "fashion-mnist": DataFacts(60_000, 10_000, 10, 1, 28),
    "cifar10": DataFacts(50_000, 10_000, 10, 3, 32),
    "cifar100": DataFacts(50_000, 10_000, 100, 3, 32),
    "svhn": DataFacts(73_257 + 531_131, 26_032, 10, 3, 32),
    "imagenet": DataFacts(1_281_167, 50_000, 1000, 3, 224),
}
