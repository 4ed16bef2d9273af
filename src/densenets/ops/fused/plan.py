"""What a fused dense block and its transition compute, read and make: plain data.

Shapes: N batch, P pixels (batch and sides flattened), C0 channels of the block's input, k growth rate,
L layers, B channels of a bottleneck, M of a transition's result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from densenets.ops.fused.unit import Moments, UnitParameters, accumulation_type


@dataclass(frozen=True, kw_only=True)
class TransitionPlan:
    """What a transition computes, besides its tensors.

    Attributes:
        epsilon: of its batch normalisation.
        pool: whether it pools; else the convolution's result keeps the input's sides.
        training: normalise by the statistics of the batch; else by running ones.
        synchronized: the batch is that of all ranks.
    """

    epsilon: float
    pool: bool
    training: bool
    synchronized: bool


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """What a block computes, besides its tensors.

    Attributes:
        units: BN-ReLU-convolutions of a layer: 2 with bottleneck, 1 without.
        epsilons: of every unit's batch normalisation, in the order of the data.
        drop: probability of dropout behind each convolution.
        training: normalise by the statistics of the batch; else by running ones.
        synchronized: the batch is that of all ranks.
        transition: the one that follows, if it is computed with the block.
    """

    units: int
    epsilons: tuple[float, ...]
    drop: float
    training: bool
    synchronized: bool
    transition: TransitionPlan | None


@dataclass(frozen=True, kw_only=True)
class BlockTensors:
    """What a block reads beside its input.

    Attributes:
        parameters: of every unit, in the order of the data, in the accumulation type.
        running: mean and variance of every unit in evaluation, in the same type; empty in training.
        keep: dropout's mask of every unit, P x its channels; empty without dropout.
        transition: parameters of its unit, if there is one.
        transition_running: its mean and variance in evaluation.
    """

    parameters: list[UnitParameters]
    running: list[Moments]
    keep: list[Tensor]
    transition: UnitParameters | None
    transition_running: Moments | None


class BlockResult(NamedTuple):
    """What a block makes.

    Attributes:
        features: N x *sides x (C0 + L k), the buffer.
        bottlenecks: L x P x B where they are kept, else 0 x P x B.
        feature_moments: 2 x (C0 + L k), mean and variance; 2 x 0 in evaluation.
        bottleneck_moments: L x 2 x B; empty in evaluation or without bottleneck.
        reduced: the transition's result, N x *sides / 2 x M; empty without one.
    """

    features: Tensor
    bottlenecks: Tensor
    feature_moments: Tensor
    bottleneck_moments: Tensor
    reduced: Tensor


def empty_result(x: Tensor, tensors: BlockTensors, plan: BlockPlan, *, keep_bottlenecks: bool) -> BlockResult:
    """What a block will write, for N x C0 x *sides."""
    weights = [parameters.weight for parameters in tensors.parameters]
    batch, channels, *sides = x.shape
    layers = len(weights) // plan.units
    total = channels + sum(weight.shape[0] for weight in weights[plan.units - 1 :: plan.units])
    width = weights[0].shape[0] if plan.units == 2 else 0
    real, counted = accumulation_type(x.dtype), int(plan.training)
    if plan.transition is None or tensors.transition is None:
        reduced = x.new_empty(0)
    else:
        reduced = empty_transition(x, tensors.transition.weight.shape[0], pool=plan.transition.pool)
    return BlockResult(
        x.new_empty((batch, *sides, total)),
        x.new_empty((layers if keep_bottlenecks else 0, batch * math.prod(sides), width)),
        x.new_empty((2, total * counted), dtype=real),
        x.new_empty((layers * counted, 2, width), dtype=real),
        reduced,
    )


def empty_transition(x: Tensor, channels: int, *, pool: bool) -> Tensor:
    """What a transition on N x C x *sides will write: N x *sides / 2 x M."""
    batch, _, *sides = x.shape
    return x.new_empty((batch, *[side // 2 if pool else side for side in sides], channels))
