"""Config of FractalNets. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from densenets.errors import InputError
from densenets.limits import MOST_CHANNELS
from densenets.models.network_config import NetworkConfig

MOST_COLUMNS = 12  # 2,048 convolutions along the longest path of a block


@dataclass(frozen=True, kw_only=True)
class FractalNetConfig(NetworkConfig):
    """A FractalNet (Larsson et al. 2017, arXiv 1605.07648).

    Attributes:
        columns: C; a block's longest path has 2^(C-1) convolutions, its shortest one.
        block_channels: channels of each block; a 2x2 max pool ends it.
        block_dropout: probability after each convolution of a block, a number a block.
        local_drop_path: probability that a join drops an input; never all of them.
        global_drop_path: share of training steps that train one column alone instead.

    Raises:
        InputError: a field is out of its range.
    """

    columns: int
    block_channels: tuple[int, ...]
    block_dropout: tuple[float, ...]
    local_drop_path: float = 0.0
    global_drop_path: float = 0.0

    family: ClassVar[str] = "fractalnet"
    title: ClassVar[str] = "FractalNet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_1("columns", most=MOST_COLUMNS)
        if not self.block_channels or min(self.block_channels) < 1:
            raise InputError(f"block_channels must be at least 1 in every block, got {self.block_channels}")
        self._check_stages("block_channels")
        self._check_depth()
        self._check_at_most(MOST_CHANNELS, block_channels=max(self.block_channels))
        if len(self.block_dropout) != len(self.block_channels):
            raise InputError(
                f"block_dropout must be {len(self.block_channels)} probabilities, one a block, "
                f"got {self.block_dropout}"
            )
        for probability in self.block_dropout:
            self._check_probabilities(block_dropout=probability)
        self._check_probabilities(local_drop_path=self.local_drop_path)
        if not 0 <= self.global_drop_path <= 1:
            raise InputError(f"global_drop_path must be a share in [0, 1], got {self.global_drop_path}")

    @property
    def block_depth(self) -> int:
        """Convolutions along a block's longest path."""
        return int(2 ** (self.columns - 1))

    @property
    def depth(self) -> int:
        """Convolutions along the longest path, and the linear layer."""
        return len(self.block_channels) * self.block_depth + 1

    @property
    def smallest_size(self) -> int:
        """The smallest image side, in pixels: every pooling halves and drops the odd pixel."""
        return int(2 ** len(self.block_channels))

    @property
    def skips_layers(self) -> bool:
        """Whether a training step may skip convolutions."""
        return self.columns > 1 and (self.local_drop_path > 0 or self.global_drop_path > 0)

    @property
    def num_features(self) -> int:
        """Channels that the classifier reads."""
        return self.block_channels[-1]

    def periods(self) -> list[int]:
        """For each column, the shallowest first, the number of a block's steps that a convolution spans."""
        return [int(2 ** (self.columns - 1 - column)) for column in range(self.columns)]
