"""Config of a DenseNet, and the channels of its blocks. Needs no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from densenets.errors import InputError
from densenets.limits import MOST_BOTTLENECK_WIDTH
from densenets.models.network_config import NetworkConfig

Stem = Literal["cifar", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig(NetworkConfig):
    """A DenseNet (Huang et al. 2017, section 3).

    Attributes:
        block_layers: dense layers in each block, L per block.
        growth_rate: k, the channels that each layer adds.
        bottleneck: "-B": a 1x1 convolution to 4k channels before each 3x3.
        compression: theta in (0, 1]: a transition outputs floor(theta * channels); "-C" below 1.
        stem: "cifar" is a 3x3 convolution; "imagenet" a 7x7/2 one, BN-ReLU and a 3x3/2 max pool.
        stem_channels: output channels of the stem.
        bottleneck_width: output channels of a bottleneck's 1x1 convolution in units of k, 4 in the paper.
        dropout: probability, after every convolution but the first (0.2 without augmentation).
        norm_epsilon: what every BN adds to the variance: PyTorch's 1e-5, Keras' 1.001e-5.
        spatial_dims: 1 for signals, 2 for images, 3 for volumes.

    Raises:
        InputError: a field is out of its range, or the network would run out of channels.
    """

    block_layers: tuple[int, ...]
    growth_rate: int
    bottleneck: bool
    compression: float
    stem: Stem
    stem_channels: int
    bottleneck_width: int = 4
    dropout: float = 0.0
    norm_epsilon: float = 1e-5

    family: ClassVar[str] = "densenet"
    title: ClassVar[str] = "DenseNet"
    known_dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.block_layers or any(layers < 1 for layers in self.block_layers):
            raise InputError(f"block_layers must be at least 1 in every block, got {self.block_layers}")
        self._check_stages("block_layers")
        self._check_depth()
        self._check_at_least_1("growth_rate", "stem_channels")
        self._check_at_least_1("bottleneck_width", most=MOST_BOTTLENECK_WIDTH)
        if not 0 < self.compression <= 1:
            raise InputError(
                "compression must be a share in (0, 1], 0.5 in -C and -BC and 1 without, "
                f"got {self.compression}"
            )
        self._check_probabilities(dropout=self.dropout)
        if not 0 < self.norm_epsilon < 1:
            raise InputError(f"norm_epsilon must be above 0 and below 1, got {self.norm_epsilon}")
        self._check_literals(stem=Stem)
        for block in self.blocks():
            if block.transition_out_channels < 1:
                raise InputError(
                    f"compression {self.compression} leaves no channel after block {block.number} "
                    f"({block.out_channels} channels); raise it, or growth_rate"
                )

    @property
    def bottleneck_channels(self) -> int:
        """Channels between the 1x1 and the 3x3 of a bottleneck layer, 4k in the paper."""
        return self.bottleneck_width * self.growth_rate

    @property
    def depth(self) -> int:
        """L as the paper counts it: stem, layers' convolutions, transitions and classifier."""
        convolutions = 2 if self.bottleneck else 1
        return convolutions * sum(self.block_layers) + len(self.block_layers) + 1

    def blocks(self) -> list[BlockChannels]:
        """The channels of every block and of the transition behind it, in order."""
        blocks: list[BlockChannels] = []
        channels = self.stem_channels
        for number, layers in enumerate(self.block_layers, start=1):
            out_channels = channels + layers * self.growth_rate
            is_last = number == len(self.block_layers)
            transition_out = out_channels if is_last else math.floor(out_channels * self.compression)
            blocks.append(
                BlockChannels(
                    number=number,
                    layers=layers,
                    in_channels=channels,
                    growth_rate=self.growth_rate,
                    transition_out_channels=transition_out,
                )
            )
            channels = transition_out
        return blocks

    @property
    def num_features(self) -> int:
        """Channels that the classifier reads."""
        return self.blocks()[-1].out_channels

    def stem_size(self, size: int) -> int:
        """Pixels along one side after the stem, for an image of `size` pixels along that side."""
        return math.ceil(math.ceil(size / 2) / 2) if self.stem == "imagenet" else size

    @property
    def default_size(self) -> int:
        """The image side, in pixels, of the data that the paper trains it on."""
        return 224 if self.stem == "imagenet" else 32

    @property
    def smallest_size(self) -> int:
        """The smallest image side, in pixels, for which the last block's maps have at least one pixel."""
        last_stem_size = 2 ** (len(self.block_layers) - 1)
        return last_stem_size if self.stem == "cifar" else 4 * (last_stem_size - 1) + 1


@dataclass(frozen=True, kw_only=True)
class BlockChannels:
    """Channels of one dense block and of the transition behind it (paper, section 3).

    Attributes:
        number: from 1.
        layers: L, dense layers in the block.
        in_channels: C0, input channels of the block.
        growth_rate: k, channels that each layer adds.
        transition_out_channels: channels after the transition; the block's own if none follows.
    """

    number: int
    layers: int
    in_channels: int
    growth_rate: int
    transition_out_channels: int

    @property
    def layer_in_channels(self) -> list[int]:
        """Input channels of each layer: layer l (from 1) reads C0 + (l - 1) k."""
        return [self.in_channels + layer * self.growth_rate for layer in range(self.layers)]

    @property
    def out_channels(self) -> int:
        """Output channels of the block, C0 + L k, which the transition reads."""
        return self.in_channels + self.layers * self.growth_rate

    @property
    def connections(self) -> int:
        """Direct connections, L (L + 1) / 2: layer l (from 1) reads l of the earlier outputs."""
        return self.layers * (self.layers + 1) // 2
