"""Initialisation of weights, in place, by the distributions of the papers.

Weights on the meta device have no memory and stay as they are: there PyTorch would import its compiler to
draw nothing, which takes seconds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def he_normal_(weight: Tensor, fan: str, generator: torch.Generator | None) -> None:
    """Draw from the normal distribution of variance 2 / fan (He et al. 2015), of "fan_in" or "fan_out"."""
    if weight.is_meta:
        return
    nn.init.kaiming_normal_(weight, mode=fan, nonlinearity="relu", generator=generator)  # type: ignore[arg-type]


def normal_(weight: Tensor, deviation: float, generator: torch.Generator | None) -> None:
    """Draw from the normal distribution of this deviation around 0."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=deviation, generator=generator)


def xavier_uniform_(weight: Tensor, generator: torch.Generator | None) -> None:
    """Draw from the uniform distribution of variance 1 / fan_in (Glorot and Bengio 2010, as in Caffe)."""
    if weight.is_meta:
        return
    fan_in = weight[0].numel()
    bound = math.sqrt(3 / fan_in)
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def linear_uniform_(linear: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw a linear layer's weights as Lua Torch does, uniform in +-1 / sqrt(in_features); bias 0."""
    if linear.weight.is_meta:
        return
    bound = 1 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.zeros_(linear.bias)
