"""Names and classes of the modules in a dense block and a transition, as executions read them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

# Names of the modules of a layer and of a transition, in the order in which they run.
PLAIN_LAYER = ("norm1", "relu1", "conv1", "dropout1")
BOTTLENECK_LAYER = (*PLAIN_LAYER, "norm2", "relu2", "conv2", "dropout2")
TRANSITION = ("norm", "relu", "conv", "dropout", "pool")


class UnitModules(NamedTuple):
    """The modules of a unit, BN-ReLU-convolution-dropout; a layer has one unit, or two with a bottleneck."""

    norm: _BatchNorm
    relu: nn.Module
    conv: _ConvNd
    dropout: nn.Dropout

    @property
    def drop(self) -> float:
        """Dropout probability; 0 in evaluation."""
        return self.dropout.p if self.dropout.training else 0.0


class BlockClasses(NamedTuple):
    """The classes of a network's dense blocks, layers and transitions; only they, no subclass, are fused."""

    block: type[nn.Module]
    layer: type[nn.Module]
    transition: type[nn.Module]


def update_running_statistics(norm: _BatchNorm, mean: Tensor, unbiased_variance: Tensor) -> None:
    """Update a batch normalisation's running statistics by those of a batch, both C, as its forward would."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased_variance.to(norm.running_var.dtype), norm.momentum)
        norm.num_batches_tracked.add_(1)
