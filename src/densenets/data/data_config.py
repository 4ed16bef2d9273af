"""What data a run reads, and how. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from densenets.errors import InputError, unknown_name
from densenets.extras import require
from densenets.limits import MOST_IMAGES, MOST_PIXELS, MOST_WORKERS
from densenets.schema import read

NormalizationName = Literal["channel", "scale", "imagenet"]
AugmentationStep = Literal["resized-crop", "color-jitter", "lighting", "normalize", "mirror", "crop"]

MEMORY_DATA = ("digits", "fashion-mnist", "cifar10", "cifar100", "svhn")
FOLDER_DATA = ("imagenet", "folder")
DATA_NAMES = (*MEMORY_DATA, *FOLDER_DATA)


def require_package_of(name: str) -> None:
    """Check that the package is installed that a data set comes with: scikit-learn brings digits.

    Raises:
        InputError: it is not; the line says how to install it.
    """
    if name == "digits":
        require("digits", "the data set digits")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The data of a run, and the protocol by which it is read (paper, section 4.1)."""

    name: str
    """digits, fashion-mnist, cifar10, cifar100, svhn, imagenet, or folder (of class folders)."""
    root: Path = Path("data")
    """Where the data lies: torchvision's layout, or a folder of train/, val/ and test/, or of the classes."""
    download: bool = False
    """Fetch the set into root if it is not there, with checksums."""
    augmentation: tuple[AugmentationStep, ...] = ("normalize",)
    """Steps for training images, in order. A crop pads with zeros: after normalize, the mean colour."""
    padding: int = 4
    """Pixels on every side before "crop"."""
    normalization: NormalizationName = "channel"
    """channel: mean and deviation of the training images; scale: pixels / 255; imagenet: its constants."""
    held_out: float = 0.0
    """Training images held out for validation: a number, or a share below 1; of a folder, of every class."""
    training_images: int = 0
    """Train on so many of the images that are not held out, drawn at random; 0 for all."""
    split_seed: int = 0
    """Which images are held out, and which of the others are trained on."""
    image_size: int = 224
    """Side in pixels that images of folders are brought to."""
    channels: int = 3
    """Channels that images of folders are read with: 1 for grey, 3 for colour."""
    skip_broken: bool = False
    """Leave out images that cannot be decoded, naming them, instead of stopping."""
    workers: int = 2
    """Processes that decode images of folders."""

    def __post_init__(self) -> None:
        if self.name not in DATA_NAMES:
            raise unknown_name("data set", self.name, DATA_NAMES)
        for step in self.augmentation:
            if step not in get_args(AugmentationStep):
                raise unknown_name("augmentation step", step, get_args(AugmentationStep))
        if self.augmentation.count("normalize") != 1:
            raise InputError("augmentation needs the step normalize exactly once")
        self._check_order()
        if self.normalization not in get_args(NormalizationName):
            raise unknown_name("normalization", self.normalization, get_args(NormalizationName))
        for step in ("resized-crop", "color-jitter"):
            if self.in_memory and step in self.augmentation:
                raise InputError(f"{step} is for image folders, and {self.name} lies in memory")
        if not 0 <= self.held_out <= MOST_IMAGES or (
            self.held_out >= 1 and self.held_out != int(self.held_out)
        ):
            raise InputError(
                f"held_out must be a whole number of images, or a share below 1, got {self.held_out}"
            )
        if self.normalization == "channel" and not self.in_memory:
            raise InputError(
                "normalization channel is for the sets in memory; folders take imagenet or scale"
            )
        if self.channels not in (1, 3):
            raise InputError(f"channels must be 1 (grey) or 3 (colour), got {self.channels}")
        if self.image_size < 1 or min(self.workers, self.padding, self.training_images) < 0:
            raise InputError(
                "image_size must be at least 1 pixel, workers, padding and training_images at least 0, got "
                f"{self.image_size}, {self.workers}, {self.padding} and {self.training_images}"
            )
        if max(self.image_size, self.padding) > MOST_PIXELS or self.workers > MOST_WORKERS:
            raise InputError(
                f"image_size and padding must be at most {MOST_PIXELS} and workers at most "
                f"{MOST_WORKERS}, got {self.image_size}, {self.padding} and {self.workers}"
            )
        if self.training_images > MOST_IMAGES or abs(self.split_seed) >= 2**63:
            raise InputError(
                f"training_images must be at most {MOST_IMAGES} and split_seed a 64-bit number, got "
                f"{self.training_images} and {self.split_seed}"
            )

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> DataConfig:
        """The config whose fields JSON held.

        Raises:
            InputError: a field is missing, unknown or out of its range.
        """
        return read(cls, fields, "not the config of a data set")

    @property
    def in_memory(self) -> bool:
        """Whether the whole set lives on the device, as uint8."""
        return self.name in MEMORY_DATA

    def _check_order(self) -> None:
        steps = list(self.augmentation)
        # These work on the image file's own pixels, in the worker that decodes it.
        first = [s for s in steps if s in ("resized-crop", "color-jitter")]
        if steps[: len(first)] != first:
            raise InputError("resized-crop and color-jitter come before the other augmentation steps")
        if "lighting" in steps and steps.index("lighting") > steps.index("normalize"):
            raise InputError("lighting comes before normalize")
