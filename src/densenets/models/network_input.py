"""Images that a network is built for, by a text such as 3x64x64. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig

Config = TypeVar("Config", bound=NetworkConfig)


def read_shape(text: str) -> tuple[int, ...]:
    """Channels and sides of a text such as 3x32x32.

    Raises:
        InputError: it is no shape.
    """
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) for size in sizes) or not 2 <= len(sizes) <= 4:
        raise InputError(f"--input {text} is no shape; channels and sides are needed, such as 3x32x32")
    return tuple(int(size) for size in sizes)


def for_input(config: Config, text: str) -> tuple[Config, tuple[int, ...]]:
    """A network for images of a shape such as 3x64x64, and their sides; of an empty text its own images.

    Raises:
        InputError: the text is no shape, or the network has not so many spatial dimensions.
    """
    if not text:
        return config, (config.default_size,) * config.spatial_dims
    channels, *sides = read_shape(text)
    return dataclasses.replace(config, in_channels=channels, spatial_dims=len(sides)), tuple(sides)
