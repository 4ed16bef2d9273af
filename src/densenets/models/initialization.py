"""Initialisation of weights, in place, by the distributions of the papers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def he_normal_(weight: Tensor, fan: str, generator: torch.Generator | None) -> None:
    """Draw from the normal distribution of variance 2 / fan (He et al. 2015), of "fan_in" or "fan_out"."""
    nn.init.kaiming_normal_(weight, mode=fan, nonlinearity="relu", generator=generator)  # type: ignore[arg-type]


def xavier_uniform_(weight: Tensor, generator: torch.Generator | None) -> None:
    """Draw from the uniform distribution of variance 1 / fan_in (Glorot and Bengio 2010, as in Caffe)."""
    fan_in = weight[0].numel()
    bound = math.sqrt(3 / fan_in)
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def linear_uniform_(linear: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw a linear layer's weights as Lua Torch does, uniform in +-1 / sqrt(in_features); bias 0."""
    bound = 1 / math.sqrt(linear.in_features)
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.zeros_(linear.bias)
