"""The facts of stacks of convolutions without batch normalisation. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, get_args

from densenets.errors import InputError
from densenets.models.configs.base import NetworkConfig

Pooling = Literal["none", "max", "average"]

POOL_KERNEL, POOL_STRIDE = 3, 2  # overlapping pooling; windows may reach beyond the border


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A convolution with ReLU, and what follows it.

    Attributes:
        channels: that it makes.
        kernel: pixels of a side.
        stride: 2 halves the sides.
        padded: whether zeros around the maps keep their sides (divided by the stride).
        pooling: 3x3/2 behind it, in Caffe's form: sides are rounded up.
        dropout: probability behind the pooling.
        companion: whether a companion classifier reads the convolution's result, before ReLU.
    """

    channels: int
    kernel: int
    stride: int = 1
    padded: bool = True
    pooling: Pooling = "none"
    dropout: float = 0.0
    companion: bool = False

    def convolved(self, side: int) -> int:
        """Pixels along a side behind the convolution."""
        padding = 2 * (self.kernel // 2) if self.padded else 0
        return (side + padding - self.kernel) // self.stride + 1

    def pooled(self, side: int) -> int:
        """Pixels along a side behind the pooling, for one of so many before it."""
        return side if self.pooling == "none" else -((POOL_KERNEL - side) // POOL_STRIDE) + 1


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig(NetworkConfig):
    """Convolutions, the last of which makes a map a class, and their mean over the image.

    Network in Network (Lin et al. 2014, arXiv 1312.4400), All-CNN (Springenberg et al. 2015, arXiv
    1412.6806), Deeply Supervised Net (Lee et al. 2015, arXiv 1409.5185).

    Attributes:
        layers: all but the last, which is a 1x1 convolution to the classes.
        last_relu: whether a ReLU follows the last convolution.
        input_dropout: probability on the image.
        weight_deviation: standard deviation of the initial weights, normally distributed; 0 for He's.
        image_size: side in pixels; companion classifiers read whole maps, and so are made for one size.

    Raises:
        InputError: a field is out of its range.
    """

    layers: tuple[ConvLayer, ...]
    last_relu: bool
    input_dropout: float = 0.0
    weight_deviation: float = 0.0
    image_size: int = 32

    family: ClassVar[str] = "convnet"
    title: ClassVar[str] = "network of convolutions"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_1("image_size")
        if not self.layers:
            raise InputError("layers () cannot be: at least 1 is needed")
        for number, layer in enumerate(self.layers, start=1):
            if min(layer.channels, layer.kernel, layer.stride) < 1:
                raise InputError(f"layer {number}: channels, kernel and stride are at least 1")
            if layer.pooling not in get_args(Pooling):
                raise InputError(
                    f"layer {number}: pooling '{layer.pooling}' is unknown; known: none, max, average"
                )
            self._check_probabilities(dropout=layer.dropout)
        self._check_probabilities(input_dropout=self.input_dropout)
        if self.weight_deviation < 0:
            raise InputError(f"weight_deviation {self.weight_deviation} cannot be: at least 0 is needed")

    @property
    def depth(self) -> int:
        """Convolutions, the last one counted."""
        return len(self.layers) + 1

    @property
    def num_features(self) -> int:
        """Channels that the last convolution reads."""
        return self.layers[-1].channels

    @cached_property  # every forward pass asks
    def smallest_size(self) -> int:
        """The smallest image side, in pixels, that leaves the last maps a pixel."""
        size = 1
        while min(min(pair) for pair in self.sides(size)) < 1:
            size += 1
        return size

    def sides(self, side: int) -> list[tuple[int, int]]:
        """Pixels along a side behind each layer's convolution and behind its pooling."""
        sides = []
        for layer in self.layers:
            convolved = layer.convolved(side)
            side = layer.pooled(convolved)
            sides.append((convolved, side))
        return sides

    def companions(self) -> list[tuple[int, int]]:
        """The layers that have a companion classifier, numbered from 1, and the values that it reads."""
        return [
            (number, layer.channels * convolved**2)
            for number, (layer, (convolved, _)) in enumerate(
                zip(self.layers, self.sides(self.image_size), strict=True), start=1
            )
            if layer.companion
        ]

    def for_images(self, num_classes: int, in_channels: int, size: int) -> Self:
        """The same network for images of `size` pixels a side and so many classes and channels.

        Raises:
            InputError: the images are too small for it.
        """
        config = super().for_images(num_classes, in_channels, size)
        return dataclasses.replace(config, image_size=size)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The config that `to_dict` was made from.

        Raises:
            InputError: a field is missing, unknown or out of its range.
        """
        try:
            layers = tuple(ConvLayer(**layer) for layer in fields["layers"])
        except (KeyError, TypeError) as error:
            raise InputError(f"not a {cls.title}'s config: {error}") from error
        return super().from_dict({**fields, "layers": layers})
