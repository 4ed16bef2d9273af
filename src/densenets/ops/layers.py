"""What an execution of the dense block may ask of a dense layer."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


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
