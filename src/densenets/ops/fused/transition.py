"""The fused transition: BN-ReLU, average pooling and the 1x1 convolution in one unit.

Without dropout between them the pooling and the convolution commute, so the pooling goes first: a quarter of
the multiply-adds in two dimensions, an eighth in three, and nothing of the input's size is written.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densenets.ops.fused.plan import TransitionPlan, empty_transition
from densenets.ops.fused.ranks import Ranks
from densenets.ops.fused.unit import Kernels, Moments, Unit, UnitParameters, accumulation_type, as_matrix


def transition_forward(
    x: Tensor, parameters: UnitParameters, running: Moments | None, plan: TransitionPlan, kernels: Kernels
) -> tuple[Tensor, Tensor]:
    """N x C x *sides -> N x M x *sides / 2, and the moments, 2 x C (2 x 0 in evaluation)."""
    matrix = as_matrix(x)
    if running is None:
        moments = Ranks(matrix, synchronized=plan.synchronized).moments(kernels.statistics(matrix))
    else:
        moments = running
    out = empty_transition(x, parameters.weight.shape[0], pool=plan.pool)
    unit = transition_unit(x.movedim(1, -1).shape, matrix, moments, parameters, plan)
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
    images = x.movedim(1, -1).shape
    unit = transition_unit(images, matrix, moments, parameters, plan)
    sums = torch.zeros((2, x.shape[1]), dtype=real, device=x.device) if plan.training else None
    x_gradient = empty_gradient(unit, kernels)
    found = kernels.backward(unit, as_matrix(gradient), None, x_gradient, accumulate=False, sums=sums)
    if sums is not None:
        completion = Ranks(matrix, synchronized=plan.synchronized).completion(matrix, moments.mean, sums)
        kernels.complete(x_gradient, completion, x_gradient)
    return x_gradient.view(images).movedim(-1, 1), found


def transition_unit(
    images: torch.Size, matrix: Tensor, moments: Moments, parameters: UnitParameters, plan: TransitionPlan
) -> Unit:
    """The unit of a transition that reads images, N x *sides x C, as a matrix."""
    return Unit(
        x=matrix,
        batch=images[0],
        sides=tuple(images[1:-1]),
        moments=moments,
        scale=parameters.scale,
        shift=parameters.shift,
        epsilon=plan.epsilon,
        weight=parameters.weight,
        pool=plan.pool,
    )


def empty_gradient(unit: Unit, kernels: Kernels) -> Tensor:
    """Fresh memory for the gradient of a transition's input, P x C.

    Pixels that pooling leaves out, at the end of an odd side, are 0: their gradient comes from the statistics
    alone.
    """
    left_out = unit.pool and any(side % 2 for side in unit.sides)
    gradient = torch.zeros_like(unit.x) if left_out else torch.empty_like(unit.x)
    kernels.expect(gradient)
    return gradient
