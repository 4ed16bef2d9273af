"""The fused transition: BN-ReLU, average pooling and the 1x1 convolution in one unit.

Without dropout between them the pooling and the convolution commute, so the pooling goes first: a quarter of
the multiply-adds in two dimensions, an eighth in three, and nothing of the input's size is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densenets.ops.kernels import Kernels, Moments, Unit, UnitParameters, accumulation_type, as_matrix
from densenets.ops.ranks import Ranks


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


def transition_forward(
    x: Tensor, parameters: UnitParameters, running: Moments | None, plan: TransitionPlan, kernels: Kernels
) -> tuple[Tensor, Tensor]:
    """N x C x *sides -> N x M x *sides / 2, and the moments, 2 x C (2 x 0 in evaluation)."""
    matrix = as_matrix(x)
    if running is None:
        moments = Ranks(matrix, synchronized=plan.synchronized).moments(kernels.statistics(matrix))
    else:
        moments = running
    out = empty_transition(x, parameters.weight.shape[0], plan)
    unit = _unit(x, matrix, moments, parameters, plan)
    kernels.forward(unit, out.view(-1, out.shape[-1]), statistics=False)
    noted = torch.stack(moments) if plan.training else moments.mean.new_empty((2, 0))
    return out.movedim(-1, 1), noted


def transition_backward(
    gradient: Tensor,
    x: Tensor,
    parameters: UnitParameters,
    moments: Moments,
    plan: TransitionPlan,
    kernels: Kernels,
) -> tuple[Tensor, UnitParameters]:
    """Gradients of the input, N x C x *sides, and of the parameters."""
    matrix = as_matrix(x)
    real = accumulation_type(x.dtype)
    unit = _unit(x, matrix, moments, parameters, plan)
    sums = torch.zeros((2, x.shape[1]), dtype=real, device=x.device) if plan.training else None
    # Pixels that pooling leaves out, at the end of an odd side, get their gradient from the statistics alone.
    left_out = plan.pool and any(side % 2 for side in unit.sides)
    x_gradient = torch.zeros_like(matrix) if left_out else torch.empty_like(matrix)
    kernels.expect(x_gradient)
    found = kernels.backward(unit, as_matrix(gradient), None, x_gradient, accumulate=False, sums=sums)
    images = x.movedim(1, -1).shape
    if sums is not None:
        completion = Ranks(matrix, synchronized=plan.synchronized).completion(matrix, moments.mean, sums)
        kernels.complete(x_gradient, completion, x_gradient)
    return x_gradient.view(images).movedim(-1, 1), found


def empty_transition(x: Tensor, channels: int, plan: TransitionPlan) -> Tensor:
    """What a transition will write: N x *sides / 2 x M."""
    batch, _, *sides = x.shape
    return x.new_empty((batch, *[side // 2 if plan.pool else side for side in sides], channels))


def _unit(
    x: Tensor, matrix: Tensor, moments: Moments, parameters: UnitParameters, plan: TransitionPlan
) -> Unit:
    return Unit(
        x=matrix,
        batch=x.shape[0],
        sides=tuple(x.shape[2:]),
        moments=moments,
        scale=parameters.scale,
        shift=parameters.shift,
        epsilon=plan.epsilon,
        weight=parameters.weight,
        pool=plan.pool,
    )
