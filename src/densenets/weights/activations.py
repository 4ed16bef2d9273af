"""Which function stands between a norm and the convolution behind it, from running statistics.

Weights do not show it. But the maps of a norm have about its shift for a mean and its scale for a deviation,
so what an activation makes of them follows, and what the convolution makes of that is the running mean of the
next norm. Taken over all such places of a network, the activation that it was trained with fits several times
better than others, after a few steps already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.assembly import BATCH_COUNTER

_RELU = "ReLU"
# Leaky ReLUs of small slopes, ReLU6 and CELU have nearly the means of one of these.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    _RELU: functional.relu,
    "none": lambda x: x,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
    "Mish": functional.mish,
    "ELU": functional.elu,
    "a leaky ReLU": lambda x: functional.leaky_relu(x, 0.2),
    "hardswish": functional.hardswish,
    "tanh": torch.tanh,
}
_CLEARLY = 0.5  # the best one's error as a share of the ReLU's, at most
# In deviations: of the ReLU's means, at least, and of the best one's, at most. A trained ReLU's are 0.04.
_ERROR, _FIT = 0.1, 0.2
_MOMENTUM = 0.1  # PyTorch's and nearly everyone's
_POINTS = 40  # of the quadrature


@dataclass(frozen=True)
class _Place:
    """A 1x1 convolution between two norms, by the beginnings of their keys."""

    before: str
    convolution: str
    behind: str


@torch.no_grad()
def other_activation(config: DenseNetConfig, weights: Mapping[str, Tensor]) -> str:
    """Where a network has no ReLUs, and what may stand there, for people; "" where none is missing.

    Args:
        config: of the network.
        weights: a state dict with torchvision's keys.
    """
    blocks = range(1, len(config.block_layers) + 1)
    layers = [
        f"features.denseblock{block}.denselayer{layer + 1}"
        for block, count in zip(blocks, config.block_layers, strict=True)
        for layer in range(count if config.bottleneck else 0)
    ]
    transitions = [f"features.transition{block}" for block in blocks[:-1]]
    following = [f"features.denseblock{block}.denselayer1.norm1" for block in blocks[1:]]
    groups = {
        "dense layers": [_Place(f"{at}.norm1", f"{at}.conv1", f"{at}.norm2") for at in layers],
        "transitions": [
            _Place(f"{at}.norm", f"{at}.conv", norm) for at, norm in zip(transitions, following, strict=True)
        ],
    }
    for where, places in groups.items():
        if places and (name := _fitting(places, weights)) != _RELU:
            return f"its {where} have no ReLUs, as its running statistics show (what fits: {name})"
    return ""


def _fitting(places: Sequence[_Place], weights: Mapping[str, Tensor]) -> str:
    """The activation that fits, a ReLU unless another does clearly better."""
    # Fresh statistics tell nothing, and those of a norm that was folded are made up.
    places = [place for place in places if bool(weights[f"{place.behind}.running_mean"].any())]
    if not places:
        return _RELU
    moving = all(_is_moving(place.behind, weights) for place in places)
    squares = dict.fromkeys(_ACTIVATIONS, 0.0)
    size = 0.0
    for place in places:
        mean, deviation = _statistics(place.behind, weights, moving=moving)
        size += float((mean / deviation).square().mean())
        matrix = weights[f"{place.convolution}.weight"].double().flatten(1)
        for name, activation in _ACTIVATIONS.items():
            expected = matrix @ _mean_behind(activation, place.before, weights)
            squares[name] += float(((expected - mean) / deviation).square().mean())
    errors = {name: math.sqrt(square / len(places)) for name, square in squares.items()}
    best = min(errors, key=lambda name: errors[name])
    # Means that may hardly have left 0, for all that is known, are no evidence of what has such means.
    known = moving or errors[best] < _CLEARLY * math.sqrt(size / len(places))
    clearly = errors[best] < min(_FIT, _CLEARLY * errors[_RELU]) and errors[_RELU] > _ERROR
    return best if known and clearly else _RELU


def _left_of_beginning(norm: str, weights: Mapping[str, Tensor]) -> float:
    """The share that what running statistics began with has in them after the steps that were counted."""
    return float((1 - _MOMENTUM) ** max(0, int(weights[f"{norm}.{BATCH_COUNTER}"])))


def _is_moving(norm: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether running statistics may be those of the usual momentum: what is left of the 1 stands in each.

    Those of a mean over all batches, as weights that were averaged have, are settled after few steps.
    """
    left = _left_of_beginning(norm, weights)
    return left < 1 and bool((weights[f"{norm}.running_var"] > 0.99 * left).all())


def _statistics(norm: str, weights: Mapping[str, Tensor], *, moving: bool) -> tuple[Tensor, Tensor]:
    """Mean and deviation of what a norm has seen; of moving ones without what they began with, 0 and 1."""
    mean, variance = (weights[f"{norm}.{role}"].double() for role in ("running_mean", "running_var"))
    left = _left_of_beginning(norm, weights) if moving else 0.0
    return mean / (1 - left), ((variance - left) / (1 - left)).clamp(min=1e-12).sqrt()


def _mean_behind(activation: Callable[[Tensor], Tensor], norm: str, weights: Mapping[str, Tensor]) -> Tensor:
    """The mean of an activation of normally distributed maps, by Gauss-Hermite quadrature: one a channel."""
    scale, shift = (weights[f"{norm}.{role}"].double() for role in ("weight", "bias"))
    points, masses = _quadrature()
    values: Tensor = activation(shift[:, None] + scale.abs()[:, None] * points)
    return values @ masses / math.sqrt(2 * math.pi)


@cache
def _quadrature() -> tuple[Tensor, Tensor]:
    """Points and masses, which are the same at every place."""
    points, masses = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(_POINTS))
    return points, masses
