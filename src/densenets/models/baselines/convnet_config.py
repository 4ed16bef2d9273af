"""Config of networks of convolutions and pooling without batch normalisation. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, Self, get_args

from densenets.errors import InputError
from densenets.limits import MOST_CHANNELS, MOST_PIXELS, MOST_VALUES
from densenets.models.network_config import NetworkConfig

Pooling = Literal["none", "max", "average"]

MOST_CONVOLUTIONS = 256
MOST_KERNEL = 255  # pixels of a kernel's side, and of a stride

POOL_KERNEL, POOL_STRIDE = 3, 2  # overlapping pooling; windows may reach beyond the border


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """A convolution with ReLU, then optional pooling and dropout.

    Attributes:
        channels: output channels.
        kernel: pixels of a side.
        stride: 2 halves the sides.
        padded: whether kernel // 2 zeros are added at each end of a side.
        pooling: 3x3/2 after the ReLU, in Caffe's form: sides are rounded up.
        dropout: probability after the pooling.
        companion: whether a companion classifier reads the convolution's output, before ReLU.
    """

    channels: int
    kernel: int
    stride: int = 1
    padded: bool = True
    pooling: Pooling = "none"
    dropout: float = 0.0
    companion: bool = False

    def convolved(self, side: int) -> int:
        """Pixels along a side after the convolution, for `side` pixels before it."""
        padding = 2 * (self.kernel // 2) if self.padded else 0
        return (side + padding - self.kernel) // self.stride + 1

    def smallest(self, side: int) -> int:
        """The fewest input pixels along a side for `side` output pixels and at least one before pooling."""
        convolved = side if self.pooling == "none" else POOL_STRIDE * side
        padding = 2 * (self.kernel // 2) if self.padded else 0
        return max(1, (convolved - 1) * self.stride + self.kernel - padding)

    def pooled(self, side: int) -> int:
        """Pixels along a side after the pooling, for `side` pixels before it."""
        return side if self.pooling == "none" else -((POOL_KERNEL - side) // POOL_STRIDE) + 1


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig(NetworkConfig):
    """Convolutions to one map a class, whose means over the image are the logits.

    Network in Network (Lin et al. 2014, arXiv 1312.4400), All-CNN (Springenberg et al. 2015, arXiv
    1412.6806), Deeply Supervised Net (Lee et al. 2015, arXiv 1409.5185).

    Attributes:
        layers: all but the last, which is a 1x1 convolution to the classes.
        last_relu: whether a ReLU follows the last convolution.
        input_dropout: probability on the image.
        weight_deviation: standard deviation of the initial weights, normally distributed; 0 for He's.
        image_size: side in pixels; companion classifiers read whole maps, so their weights are of one size.

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
        self._check_at_least_1("image_size", most=MOST_PIXELS)
        if not self.layers:
            raise InputError("layers must be at least 1, got ()")
        self._check_at_most(MOST_CONVOLUTIONS, layers=len(self.layers))
        for number, layer in enumerate(self.layers, start=1):
            if min(layer.channels, layer.kernel, layer.stride) < 1:
                raise InputError(
                    f"layer {number}: channels, kernel and stride must be at least 1, got "
                    f"{layer.channels}, {layer.kernel} and {layer.stride}"
                )
            if layer.channels > MOST_CHANNELS or max(layer.kernel, layer.stride) > MOST_KERNEL:
                raise InputError(
                    f"layer {number}: channels must be at most {MOST_CHANNELS}, "
                    f"kernel and stride at most {MOST_KERNEL}, got "
                    f"{layer.channels}, {layer.kernel} and {layer.stride}"
                )
            if layer.pooling not in get_args(Pooling):
                raise InputError(
                    f"layer {number}: pooling '{layer.pooling}' is unknown; known: none, max, average"
                )
            self._check_probabilities(dropout=layer.dropout)
        self._check_probabilities(input_dropout=self.input_dropout)
        if not 0 <= self.weight_deviation < math.inf:
            raise InputError(f"weight_deviation must be at least 0 and finite, got {self.weight_deviation}")
        for number, values in self.companions():
            self._check_at_most(MOST_VALUES, **{f"layer {number}: inputs of its companion": values})

    @property
    def depth(self) -> int:
        """Number of convolutions, the last one included."""
        return len(self.layers) + 1

    @property
    def num_features(self) -> int:
        """Channels that the last convolution reads."""
        return self.layers[-1].channels

    @cached_property  # every forward pass asks
    def smallest_size(self) -> int:
        """The smallest image side, in pixels, for which the last maps have at least one pixel."""
        needed = 1  # pixels after a layer, from the last one back to the image
        for layer in reversed(self.layers):
            needed = layer.smallest(needed)
        return needed

    def sides(self, side: int) -> list[tuple[int, int]]:
        """Pixels along a side after each layer's convolution, and after its pooling."""
        sides = []
        for layer in self.layers:
            convolved = layer.convolved(side)
            side = layer.pooled(convolved)
            sides.append((convolved, side))
        return sides

    def companions(self) -> list[tuple[int, int]]:
        """The number, from 1, of each layer with a companion classifier, and the companion's inputs."""
        return [
            (number, layer.channels * convolved**2)
            for number, (layer, (convolved, _)) in enumerate(
                zip(self.layers, self.sides(self.image_size), strict=True), start=1
            )
            if layer.companion
        ]

    def for_images(self, num_classes: int, in_channels: int, size: int) -> Self:
        """A copy for images of `size` pixels a side, with the given classes and channels.

        Raises:
            InputError: the images are too small for the network.
        """
        config = super().for_images(num_classes, in_channels, size)
        return dataclasses.replace(config, image_size=size)
