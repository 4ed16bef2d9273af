"""Config of Highway Networks. Needs no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class HighwayConfig(NetworkConfig):
    """A convolutional Highway Network (Srivastava et al. 2015, arXiv 1505.00387 and 1507.06228).

    Each stage is a 3x3 convolution with ReLU that sets the channels, then highway layers. A 2x2 max pool and
    dropout follow each but the last; behind that are a 1x1 convolution, the mean over the image, and a
    linear layer.

    Attributes:
        stage_layers: highway layers in each stage, behind its convolution.
        stage_channels: channels of each stage.
        head_channels: output channels of the 1x1 convolution.
        gate_bias: initial bias of the transform gates; negative, so that layers carry their input at first.
        input_dropout: probability on the image.
        dropout: probability after each pooling, and before the linear layer.

    Raises:
        InputError: a field is out of its range.
    """

    stage_layers: tuple[int, ...]
    stage_channels: tuple[int, ...]
    head_channels: int = 100
    gate_bias: float = -2.0
    input_dropout: float = 0.2
    dropout: float = 0.2

    family: ClassVar[str] = "highway"
    title: ClassVar[str] = "Highway Network"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stage_layers or any(layers < 0 for layers in self.stage_layers):
            raise InputError(f"stage_layers must be at least 0 in every stage, got {self.stage_layers}")
        self._check_stages("stage_layers")
        self._check_depth()
        self._check_one_each("stage_channels", len(self.stage_layers))
        self._check_at_least_1("head_channels")
        if not math.isfinite(self.gate_bias):
            raise InputError(f"gate_bias must be finite, got {self.gate_bias}")
        self._check_probabilities(input_dropout=self.input_dropout, dropout=self.dropout)

    @property
    def depth(self) -> int:
        """The stages' convolutions, highway layers, the 1x1 convolution and the linear layer."""
        return len(self.stage_layers) + sum(self.stage_layers) + 2

    @property
    def num_features(self) -> int:
        """Channels that the classifier reads."""
        return self.head_channels

    @property
    def smallest_size(self) -> int:
        """The smallest image side, in pixels: every pooling halves and drops the odd pixel."""
        return int(2 ** (len(self.stage_layers) - 1))
