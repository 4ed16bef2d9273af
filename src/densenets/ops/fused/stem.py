"""BN, ReLU and max pooling of an ImageNet stem as one operator, `densenets::stem`, with its backward pass.

Stored for the backward pass are the convolution's result and a byte for each maximum, where PyTorch's three
modules store two maps of the convolution's size and eight bytes for each maximum. For backends that run
stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import relu

from densenets.ops.backends.backend import named_backend
from densenets.ops.backends.unit import Moments, StemKernels, Unit, accumulation_type, as_matrix
from densenets.ops.fused.differentiable import (
    grads_by_operations,
    max_pool,
    needs_operations,
    norm_by_operations,
)


@torch.library.custom_op("densenets::stem", mutates_args=())
def stem_operator(
    x: Tensor, scale: Tensor, shift: Tensor, running: Sequence[Tensor], epsilon: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """BN-ReLU-max pooling (kernel 3, stride 2, padding 1) on N x C x *sides.

    Args:
        x: the convolution's result.
        scale: C; gamma.
        shift: C; beta.
        running: running mean and variance in evaluation; empty in training.
        epsilon: added to the variance.
        backend: name of a backend that runs stems.

    Returns:
        Maxima, N x C x *sides / 2, in channels-last form; the place of each maximum in its window, uint8 of
        the same shape; the batch's mean and variance, 2 x C, or 2 x 0 in evaluation.
    """
    kernels, matrix = _kernels(backend), as_matrix(x)
    moments = Moments(*running) if running else kernels.statistics(matrix)
    out, winners, batch_moments = empty_results(x, training=not running)
    kernels.stem_forward(_unit(x, scale, shift, moments, epsilon), as_matrix(out), as_matrix(winners))
    if not running:
        torch.stack(moments, out=batch_moments)
    return out, winners, batch_moments


@stem_operator.register_fake
def _(
    x: Tensor, scale: Tensor, shift: Tensor, running: Sequence[Tensor], epsilon: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return empty_results(x, training=not running)


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
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift; `moments` are those that the forward pass normalised by."""
    kernels = _kernels(backend)
    unit = _unit(x, scale, shift, Moments(*moments), epsilon)
    x_gradient = torch.empty_like(unit.x)
    kernels.advise_huge_pages(x_gradient)
    grads = kernels.stem_backward(
        unit, as_matrix(gradient), as_matrix(winners), x_gradient, batch_statistics=training
    )
    return x_gradient.view(x.movedim(1, -1).shape).movedim(-1, 1), grads.scale, grads.shift


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
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    x_gradient = x.new_empty(x.movedim(1, -1).shape).movedim(-1, 1)
    return x_gradient, torch.empty_like(scale), torch.empty_like(shift)


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, scale, shift, running, ctx.epsilon, ctx.backend = inputs
    ctx.training = not running
    ctx.save_for_backward(x, output[1], scale, shift, *(running or [output[2]]))
    ctx.running = len(running)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Any, ...]:
    x, winners, scale, shift, *moments = ctx.saved_tensors
    grads: Sequence[Tensor | None] = (None, None, None)
    if gradient is not None and needs_operations(gradient):
        statistics = None if ctx.training else moments

        def forward(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
            return (max_pool(relu(norm_by_operations(x, scale, shift, statistics, ctx.epsilon))),)

        grads = grads_by_operations(forward, [x, scale, shift], [gradient])
    elif gradient is not None:
        used = moments[0] if ctx.training else torch.stack(moments)
        settings = (ctx.epsilon, ctx.training, ctx.backend)
        grads = stem_backward_operator(gradient, x, winners, scale, shift, used, *settings)
    return (*grads, [None] * ctx.running, None, None)


def _kernels(backend: str) -> StemKernels:
    return cast(StemKernels, named_backend(backend).load())


def _unit(x: Tensor, scale: Tensor, shift: Tensor, moments: Moments, epsilon: float) -> Unit:
    return Unit(
        x=as_matrix(x),
        batch=x.shape[0],
        sides=tuple(x.shape[2:]),
        moments=moments,
        scale=scale.detach(),
        shift=shift.detach(),
        epsilon=epsilon,
        weight=scale.new_empty((0, x.shape[1], *[3] * (x.dim() - 2))),
    )


def empty_results(x: Tensor, *, training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised results of a stem on N x C x *sides: maxima, their places, in training moments, 2 x C."""
    batch, channels, *sides = x.shape
    shape = (batch, *[(side - 1) // 2 + 1 for side in sides], channels)
    return (
        x.new_empty(shape).movedim(-1, 1),
        x.new_empty(shape, dtype=torch.uint8).movedim(-1, 1),
        x.new_empty((2, channels if training else 0), dtype=accumulation_type(x.dtype)),
    )


stem_operator.register_autograd(_backward, setup_context=_set_up)
