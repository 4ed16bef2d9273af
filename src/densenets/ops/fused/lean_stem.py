"""The whole stem of an ImageNet network as one operator that does not store the convolution's result.

The backward pass recomputes the convolution's result from the images, which are in memory anyway. It is the
largest map of the network, and one more convolution is about a hundredth of a training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

from densenets.ops.fused.differentiable import (
    grads_by_operations,
    max_pool,
    needs_operations,
    norm_by_operations,
)
from densenets.ops.fused.stem import empty_results, stem_backward_operator, stem_operator


@torch.library.custom_op("densenets::lean_stem", mutates_args=())
def lean_stem_operator(
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running: Sequence[Tensor],
    epsilon: float,
    stride: Sequence[int],
    padding: Sequence[int],
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Convolution, then BN-ReLU-max pooling (kernel 3, stride 2, padding 1), on N x channels x *sides.

    Args:
        images: N x channels x *sides.
        weight: C x channels x *kernel.
        scale: C; gamma.
        shift: C; beta.
        running: running mean and variance in evaluation; empty in training.
        epsilon: added to the variance.
        stride: of the convolution.
        padding: of the convolution.
        backend: name of a backend that runs stems.

    Returns:
        Maxima, in channels-last form; the batch's mean and variance, 2 x C, or 2 x 0 in evaluation.
    """
    x = _convolved(images, weight, stride, padding)
    maxima, _, moments = stem_operator(x, scale, shift, running, epsilon, backend)
    return maxima, moments


@lean_stem_operator.register_fake
def _(
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    running: Sequence[Tensor],
    epsilon: float,
    stride: Sequence[int],
    padding: Sequence[int],
    backend: str,
) -> tuple[Tensor, Tensor]:
    maxima, _, moments = empty_results(_convolved(images, weight, stride, padding), training=not running)
    return maxima, moments


@torch.library.custom_op("densenets::lean_stem_backward", mutates_args=())
def lean_stem_backward_operator(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    moments: Tensor,
    epsilon: float,
    training: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    of_images: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of images (empty unless `of_images`), weight, scale and shift."""
    x = _convolved(images, weight, stride, padding)
    _, winners, _ = stem_operator(x, scale, shift, list(moments), epsilon, backend)
    x_gradient, *grads = stem_backward_operator(
        gradient, x, winners, scale, shift, moments, epsilon, training, backend
    )
    dims = len(stride)
    image_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
        x_gradient,
        images,
        weight,
        bias_sizes=None,
        stride=stride,
        padding=padding,
        dilation=[1] * dims,
        transposed=False,
        output_padding=[0] * dims,
        groups=1,
        output_mask=[of_images, True, False],
    )
    if of_images:
        image_gradient = torch.empty_like(images).copy_(image_gradient)  # in the layout of the images
    return (image_gradient if of_images else images.new_empty(0), weight_gradient.contiguous(), *grads)


@lean_stem_backward_operator.register_fake
def _(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    moments: Tensor,
    epsilon: float,
    training: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    of_images: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    image_gradient = torch.empty_like(images) if of_images else images.new_empty(0)
    return image_gradient, weight.new_empty(weight.shape), torch.empty_like(scale), torch.empty_like(shift)


def _convolved(images: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    dims = len(stride)
    result: Tensor = torch.ops.aten.convolution(
        images, weight, None, stride, padding, [1] * dims, False, [0] * dims, 1
    )
    return result


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    images, weight, scale, shift, running, *settings = inputs
    ctx.epsilon, ctx.stride, ctx.padding, ctx.backend = settings
    ctx.training, ctx.running = not running, len(running)
    ctx.save_for_backward(images, weight, scale, shift, *(running or [output[1]]))
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Any, ...]:
    images, weight, scale, shift, *moments = ctx.saved_tensors
    grads: Sequence[Tensor | None] = (None, None, None, None)
    if gradient is not None and needs_operations(gradient):
        statistics = None if ctx.training else moments

        def forward(images: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
            x = _convolved(images, weight, ctx.stride, ctx.padding)
            return (max_pool(relu(norm_by_operations(x, scale, shift, statistics, ctx.epsilon))),)

        grads = grads_by_operations(forward, [images, weight, scale, shift], [gradient])
    elif gradient is not None:
        of_images = ctx.needs_input_grad[0]
        used = moments[0] if ctx.training else torch.stack(moments)
        settings = (ctx.epsilon, ctx.training, ctx.stride, ctx.padding, of_images, ctx.backend)
        grads = lean_stem_backward_operator(gradient, images, weight, scale, shift, used, *settings)
        grads = grads if of_images else (None, *grads[1:])
    return (*grads, [None] * ctx.running, None, None, None, None)


lean_stem_operator.register_autograd(_backward, setup_context=_set_up)
