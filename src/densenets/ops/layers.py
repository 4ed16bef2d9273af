"""What an execution of the dense block may ask of a dense layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


class UnitModules(NamedTuple):
    """A BN-ReLU-convolution and the dropout behind it; a layer has one, or two with a bottleneck."""

    norm: _BatchNorm
    relu: nn.Module
    conv: _ConvNd
    dropout: nn.Dropout

    @property
    def drop(self) -> float:
        """The probability of dropout; 0 in evaluation."""
        return self.dropout.p if self.dropout.training else 0.0


class DenseLayerModules(Protocol):
    """The modules of a dense layer H_l (paper, section 3), with or without bottleneck."""

    norm1: _BatchNorm
    conv1: _ConvNd

    def __call__(self, features: Tensor, /) -> Tensor:
        """The whole layer: N x C x *sides -> N x k x *sides."""
        ...

    def after_first_convolution(self, x: Tensor) -> Tensor:
        """What follows conv1: dropout and, in a bottleneck layer, BN-ReLU-3x3 and dropout."""
        ...

    def units(self) -> Sequence[UnitModules]:
        """All that it computes, in the order of the data; nothing where it computes something else."""
        ...


class TransitionModules(Protocol):
    """The modules of a transition (paper, section 3)."""

    norm: _BatchNorm
    conv: _ConvNd
    dropout: nn.Dropout
    pool: nn.Module

    def units(self) -> Sequence[UnitModules]:
        """The one before its pooling; nothing where it computes something else."""
        ...

    def activate(self, x: Tensor) -> Tensor:
        """The half before the convolution, BN-ReLU: same shape."""
        ...

    def reduce(self, activated: Tensor) -> Tensor:
        """The half that makes it smaller, conv1x1, dropout and average pool."""
        ...


def update_running_statistics(norm: _BatchNorm, mean: Tensor, unbiased_variance: Tensor) -> None:
    """Take the statistics of a batch, both C, into those of a batch normalisation, as its forward would."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased_variance.to(norm.running_var.dtype), norm.momentum)
        norm.num_batches_tracked.add_(1)
