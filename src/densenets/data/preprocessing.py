"""How pixels become a network's input. Travels with every checkpoint. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from densenets.errors import InputError
from densenets.limits import MOST_PIXELS
from densenets.schema import read

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From a picture of any size to one image of a network's input.

    Attributes:
        channels: 1 (grey) or 3 (colour).
        image_size: side in pixels of the central crop that the network reads.
        resize: side in pixels that the picture's shorter side is brought to before the crop.
        mean: per channel, of pixels in 0 ... 1.
        std: per channel, of pixels in 0 ... 1.
    """

    channels: int
    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.channels < 1 or not len(self.mean) == len(self.std) == self.channels:
            raise InputError(
                f"mean and std must have {self.channels} values each, one a channel, got "
                f"{self.mean} and {self.std}"
            )
        if not all(0 < value < math.inf for value in self.std):
            raise InputError(f"std must be above 0 in each channel, got {self.std}")
        if not all(math.isfinite(value) for value in self.mean):
            raise InputError(f"mean must be a finite number in each channel, got {self.mean}")
        if self.resize > 2 * MOST_PIXELS or self.image_size > MOST_PIXELS:
            raise InputError(
                f"image_size must be at most {MOST_PIXELS} and resize at most {2 * MOST_PIXELS}, got "
                f"{self.image_size} and {self.resize}"
            )
        if not 0 < self.image_size <= self.resize:
            raise InputError(f"image_size must be from 1 to resize ({self.resize}), got {self.image_size}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """The preprocessing that `to_dict` was made from.

        Raises:
            InputError: a field is missing, unknown or out of its range.
        """
        return read(cls, fields, "not a preprocessing")


def imagenet_preprocessing(channels: int, image_size: int, *, scale_only: bool) -> Preprocessing:
    """ImageNet's evaluation protocol at any size: shorter side to 8/7 of the crop (256 for 224).

    With one channel the constants are those of the grey mean of the three; `scale_only` leaves pixels / 255.
    """
    mean: tuple[float, ...] = (0.0,) * 3 if scale_only else IMAGENET_MEAN
    std: tuple[float, ...] = (1.0,) * 3 if scale_only else IMAGENET_STD
    if channels == 1:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    return Preprocessing(
        channels=channels,
        image_size=image_size,
        resize=round(image_size * 256 / 224),
        mean=mean,
        std=std,
    )
