"""What a fused dense block computes, reads and makes: plain data.

Shapes: P pixels (batch and sides flattened), C0 channels of the block's input, k growth rate, L layers,
B channels of a bottleneck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from densenets.ops.kernels import Moments, UnitParameters, accumulation_type


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """What a block computes, besides its tensors.

    Attributes:
        units: BN-ReLU-convolutions of a layer: 2 with bottleneck, 1 without.
        epsilons: of every unit's batch normalisation, in the order of the data.
        drop: probability of dropout behind each convolution.
        training: normalise by the statistics of the batch; else by running ones.
        synchronized: the batch is that of all ranks.
    """

    units: int
    epsilons: tuple[float, ...]
    drop: float
    training: bool
    synchronized: bool


@dataclass(frozen=True, kw_only=True)
class BlockTensors:
    """What a block reads beside its input.

    Attributes:
        parameters: of every unit, in the order of the data, in the accumulation type.
        running: mean and variance of every unit in evaluation, in the same type; empty in training.
        keep: dropout's mask of every unit, P x its channels; empty without dropout.
    """

    parameters: list[UnitParameters]
    running: list[Moments]
    keep: list[Tensor]


class BlockResult(NamedTuple):
    """What a block makes.

    Attributes:
        features: N x *sides x (C0 + L k), the buffer.
        bottlenecks: L x P x B where they are kept, else 0 x P x B.
        feature_moments: 2 x (C0 + L k), mean and variance; 2 x 0 in evaluation.
        bottleneck_moments: L x 2 x B; empty in evaluation or without bottleneck.
    """

    features: Tensor
    bottlenecks: Tensor
    feature_moments: Tensor
    bottleneck_moments: Tensor


def empty_result(
    x: Tensor, weights: Sequence[Tensor], plan: BlockPlan, *, keep_bottlenecks: bool
) -> BlockResult:
    """What a block with these weights will write, for N x C0 x *sides."""
    batch, channels, *sides = x.shape
    layers = len(weights) // plan.units
    total = channels + sum(weight.shape[0] for weight in weights[plan.units - 1 :: plan.units])
    width = weights[0].shape[0] if plan.units == 2 else 0
    real, counted = accumulation_type(x.dtype), int(plan.training)
    return BlockResult(
        x.new_empty((batch, *sides, total)),
        x.new_empty((layers if keep_bottlenecks else 0, batch * math.prod(sides), width)),
        x.new_empty((2, total * counted), dtype=real),
        x.new_empty((layers * counted, 2, width), dtype=real),
    )
