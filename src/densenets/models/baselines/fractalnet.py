"""FractalNet (Larsson et al. 2017): columns of several depths, joined by their means, without shortcuts.

Shapes: N batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from densenets.errors import InputError
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.initialization import linear_uniform_, xavier_uniform_
from densenets.models.network import Network, PathDraws, make_head
from densenets.ops.sync_batch_norm import batch_norm


class FractalNet(Network):
    """A FractalNet: N x C x H x W -> N x classes logits.

    Args:
        config: of the network.
        generator: where the initial weights are drawn from; PyTorch's own without one.
    """

    config: FractalNetConfig

    def __init__(self, config: FractalNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config)
        self._column: int | None = None
        in_channels = (config.in_channels, *config.block_channels)
        self.blocks = nn.ModuleList(
            FractalBlock(config, block_in_channels, channels, dropout, self.paths)
            for block_in_channels, channels, dropout in zip(
                in_channels, config.block_channels, config.block_dropout, strict=False
            )
        )
        self.classifier: nn.Module = make_head(config.num_features, config.num_classes)
        self.record_structure()
        self.initialize(generator)

    @property
    def column(self) -> int | None:
        """The column that runs alone, 0 the shallowest; None for all, joined. May be set at any time."""
        return self._column

    @column.setter
    def column(self, column: int | None) -> None:
        if column is not None and column not in range(self.config.columns):
            raise InputError(f"column must be in 0 ... {self.config.columns - 1}, got {column}")
        self._column = column

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again: Xavier's, as in Caffe; BN starts at 1 and 0, the last bias at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_uniform_(module.weight, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, RunningStatistics):
                module.reset()
            elif isinstance(module, nn.Linear):
                linear_uniform_(module, generator)

    def run_evaluated_paths(self, x: Tensor) -> None:
        """Run all columns joined, then each alone if that was trained."""
        chosen = self.column
        columns = range(self.config.columns) if self.config.global_drop_path else ()
        try:
            for column in (None, *columns):
                self.column = column
                self(x)
        finally:
            self.column = chosen

    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps: N x C x H x W -> N x num_features x H / stride x W / stride.

        In training with global drop-path a share of the steps runs one column, drawn evenly, in all blocks.

        Raises:
            InputError: the modules cannot read the image's channels, or it is too small.
        """
        return self.checked_call(self._features_and_relu, x)

    def _features_and_relu(self, x: Tensor) -> Tensor:
        column = self._column
        if column is None and self.training and self.config.global_drop_path:
            is_global = self.paths.draw() < self.config.global_drop_path
            column = int(self.paths.draw() * self.config.columns) if is_global else None
        for block in self.blocks:
            x = block(x, column)
        return x


def run_one_column(model: Network, column: int) -> None:
    """Let one column of a FractalNet run alone from now on, 0 the shallowest.

    Raises:
        InputError: the network is another, or has no such column.
    """
    if not isinstance(model, FractalNet):
        raise InputError(f"a {model.config.title} has no columns; leave --column out")
    model.column = column


class FractalBlock(nn.Module):
    """C columns of convolutions with joins: columns that end a convolution together go on with their mean.

    Column c has 2^c convolutions, evenly spread over the block's 2^(C-1) steps. Every column is pooled before
    the last join.
    """

    def __init__(
        self, config: FractalNetConfig, in_channels: int, channels: int, dropout: float, paths: PathDraws
    ) -> None:
        super().__init__()
        self.columns = nn.ModuleList(
            nn.ModuleList(
                FractalConvolution(
                    in_channels if number == 0 else channels,
                    channels,
                    dropout,
                    runs_alone=config.global_drop_path > 0,
                )
                for number in range(config.block_depth // period)
            )
            for period in config.periods()
        )
        self.periods, self.depth = config.periods(), config.block_depth
        self.local_drop_path, self.paths = config.local_drop_path, paths
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, column: int | None = None) -> Tensor:
        """N x C_in x H x W -> N x C x H / 2 x W / 2, through one column alone or through all."""
        if column is not None:
            for convolution in self._column(column):
                x = convolution(x, is_alone=True)
            return self.pool(x)
        maps = [x] * len(self.columns)  # the last output of each column
        for step in range(1, self.depth + 1):
            ending = [c for c, period in enumerate(self.periods) if step % period == 0]
            joined = self._drop_paths(ending)
            for c in joined:
                maps[c] = self._column(c)[step // self.periods[c] - 1](maps[c])
            if step == self.depth:
                return _mean([self.pool(maps[c]) for c in joined])
            mean = _mean([maps[c] for c in joined])
            for c in ending:
                maps[c] = mean
        raise AssertionError("a block has at least one step")

    def _column(self, column: int) -> nn.ModuleList:
        modules = self.columns[column]
        assert isinstance(modules, nn.ModuleList)
        return modules

    def _drop_paths(self, ending: list[int]) -> list[int]:
        """The columns whose mean a join takes: local drop-path drops some in training, never all."""
        if not self.training or not self.local_drop_path or len(ending) == 1:
            return ending
        survivors = [column for column in ending if self.paths.draw() >= self.local_drop_path]
        return survivors or [ending[int(self.paths.draw() * len(ending))]]


class RunningStatistics(nn.Module):
    """A second set of running statistics, mean and variance (C each), for one batch normalisation."""

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(channels))
        self.register_buffer("var", torch.empty(channels))
        self.reset()

    def reset(self) -> None:
        """Reset to mean 0 and variance 1."""
        self.mean.zero_()
        self.var.fill_(1)

    def normalise(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """Normalise x, N x C x H x W, by `norm` with these statistics in the place of its own."""
        if norm.training:
            assert norm.momentum is not None
            return batch_norm(x, norm, self.mean, self.var, norm.momentum)
        return functional.batch_norm(x, self.mean, self.var, norm.weight, norm.bias, eps=norm.eps)


class FractalConvolution(nn.Module):
    """Conv3x3-dropout-BN-ReLU: N x C_in -> N x C.

    With global drop-path a column is trained alone and among the others. It does not read the same maps in
    both: a join is a mean, which varies less than its inputs. So BN has two sets of running
    statistics, as slimmable networks do by width (Yu et al. 2019, arXiv 1812.08928), and one scale and shift.
    """

    def __init__(self, in_channels: int, channels: int, dropout: float, *, runs_alone: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm2d(channels)
        self.alone = RunningStatistics(channels) if runs_alone else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, *, is_alone: bool = False) -> Tensor:
        """N x C_in x H x W -> N x C x H x W, in a column that runs alone or among the others."""
        x = self.dropout(self.conv(x))
        x = self.alone.normalise(x, self.norm) if is_alone and self.alone else self.norm(x)
        return self.relu(x)


def _mean(maps: Iterable[Tensor]) -> Tensor:
    first, *others = maps
    total = first
    for other in others:
        total = total + other
    return total / (1 + len(others)) if others else first
