"""What follows the first convolution of an ImageNet network, fused: BN, ReLU and max pooling in one pass.

Kept for the backward pass are the convolution's result and a byte for each maximum, where PyTorch's three
modules keep two maps of the convolution's size and eight bytes for each maximum. In the native kernels only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from densenets.ops.backends.cpp.kernels import NativeKernels
from densenets.ops.fused.differentiable import (
    gradients_by_operations,
    max_pool,
    needs_operations,
    norm_by_operations,
)
from densenets.ops.fused.unit import Moments, Unit, accumulation_type, as_matrix, ready


@torch.library.custom_op("densenets::stem", mutates_args=())
def stem_operator(
    x: Tensor, scale: Tensor, shift: Tensor, running: Sequence[Tensor], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """BN-ReLU-max pooling, 3 wide, 2 apart, on N x C x *sides.

    Args:
        x: the convolution's result.
        scale: C; gamma.
        shift: C; beta.
        running: mean and variance in evaluation; empty in training.
        epsilon: what is added to the variance.

    Returns:
        Maxima, N x C x *sides / 2, in channels-last form; as many bytes, which pixel of its window each came
        from; the batch's mean and variance, 2 x C, or 2 x 0 in evaluation.
    """
    kernels, matrix, real = NativeKernels(), as_matrix(x), accumulation_type(x.dtype)
    moments = Moments(*(ready(s, real) for s in running)) if running else kernels.statistics(matrix)
    out, winners, noted = empty_results(x, counted=not running)
    kernels.stem_forward(_unit(x, scale, shift, moments, epsilon), as_matrix(out), as_matrix(winners))
    if not running:
        torch.stack(moments, out=noted)
    return out, winners, noted


@stem_operator.register_fake
def _(
    x: Tensor, scale: Tensor, shift: Tensor, running: Sequence[Tensor], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    return empty_results(x, counted=not running)


@torch.library.custom_op("densenets::stem_backward", mutates_args=())
def stem_backward_operator(
    gradient: Tensor,
    x: Tensor,
    winners: Tensor,
    scale: Tensor,
    shift: Tensor,
    moments: Tensor,
    epsilon: float,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift; `moments` are those that the forward pass normalised by."""
    kernels, real = NativeKernels(), accumulation_type(x.dtype)
    unit = _unit(x, scale, shift, Moments(*moments.to(real)), epsilon)
    x_gradient = torch.empty_like(unit.x)
    kernels.expect(x_gradient)
    found = kernels.stem_backward(
        unit, as_matrix(gradient), as_matrix(winners), x_gradient, batch_statistics=training
    )
    images = x.movedim(1, -1).shape
    return (
        x_gradient.view(images).movedim(-1, 1),
        found.scale.to(scale.dtype),
        found.shift.to(shift.dtype),
    )


@stem_backward_operator.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    winners: Tensor,
    scale: Tensor,
    shift: Tensor,
    moments: Tensor,
    epsilon: float,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.movedim(1, -1).shape).movedim(-1, 1),
        torch.empty_like(scale),
        torch.empty_like(shift),
    )


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, running, ctx.epsilon = inputs
    ctx.training = not running
    ctx.save_for_backward(x, output[1], scale, shift, *(running or [output[2]]))
    ctx.running = len(running)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Any, ...]:
    x, winners, scale, shift, *moments = ctx.saved_tensors
    found: Sequence[Tensor | None] = (None, None, None)
    if gradient is not None and needs_operations(gradient):
        statistics = [] if ctx.training else moments

        def forward(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
            return (max_pool(relu(norm_by_operations(x, scale, shift, statistics, ctx.epsilon, False))),)

        found = gradients_by_operations(forward, [x, scale, shift], [gradient])
    elif gradient is not None:
        used = moments[0] if ctx.training else torch.stack(moments)
        found = stem_backward_operator(gradient, x, winners, scale, shift, used, ctx.epsilon, ctx.training)
    return (*found, [None] * ctx.running, None)


def _unit(x: Tensor, scale: Tensor, shift: Tensor, moments: Moments, epsilon: float) -> Unit:
    real = accumulation_type(x.dtype)
    return Unit(
        x=as_matrix(x),
        batch=x.shape[0],
        sides=tuple(x.shape[2:]),
        moments=moments,
        scale=ready(scale.detach(), real),
        shift=ready(shift.detach(), real),
        epsilon=epsilon,
        weight=scale.new_empty((0, x.shape[1], *[3] * (x.dim() - 2)), dtype=real),
    )


def empty_results(x: Tensor, *, counted: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What a stem on N x C x *sides will write: maxima, winners, and with `counted` 2 x C of moments."""
    batch, channels, *sides = x.shape
    shape = (batch, *[(side - 1) // 2 + 1 for side in sides], channels)
    return (
        x.new_empty(shape).movedim(-1, 1),
        x.new_empty(shape, dtype=torch.uint8).movedim(-1, 1),
        x.new_empty((2, channels if counted else 0), dtype=accumulation_type(x.dtype)),
    )


stem_operator.register_autograd(_backward, setup_context=_set_up)
