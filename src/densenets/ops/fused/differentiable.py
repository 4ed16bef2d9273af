"""Gradients of the fused operators in PyTorch's own operations, which can be differentiated again or batched.

An operator's backward pass is an operator, which cannot be differentiated again nor be given a batch of
gradients at once. For a backward pass that is recorded (`create_graph=True`) or batched (`is_grads_batched`,
vectorised jacobians) its forward pass runs again in the operations of the reference, and autograd
differentiates these. Nothing more is kept for it: a block's result holds its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_legacy_batchedtensor
from torch.nn import functional

from densenets.ops.backends.block_plan import BlockPlan, BlockTensors
from densenets.ops.backends.unit import Moments, UnitParameters, accumulation_type
from densenets.ops.sync_batch_norm import global_batch_norm

_CONVOLUTION = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
_AVERAGE_POOL = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}
_MAX_POOL = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}


def needs_operations(*gradients: Tensor | None) -> bool:
    """Whether a backward pass is recorded (`create_graph`) or batched, which operators cannot be."""
    if torch.is_grad_enabled():
        return True
    return any(
        is_batchedtensor(gradient) or is_legacy_batchedtensor(gradient)
        for gradient in gradients
        if gradient is not None
    )


def grads_by_operations(
    forward: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of `forward`'s inputs that require them, by autograd through its operations.

    Args:
        forward: inputs -> results, in differentiable operations.
        inputs: part of autograd's graph, so that their gradients can be differentiated again.
        gradients: of each result; None for a result that is not used.
    """
    with torch.enable_grad():
        # Aliases separate inputs that share a node: a block's input is a slice of its own output.
        aliases = [tensor.view_as(tensor) if tensor.requires_grad else tensor for tensor in inputs]
        results = forward(*aliases)
    wanted = [alias for alias in aliases if alias.requires_grad]
    used = [
        (result, gradient)
        for result, gradient in zip(results, gradients, strict=True)
        if gradient is not None and result.requires_grad
    ]
    if not wanted or not used:
        return [None] * len(inputs)
    grads = iter(
        torch.autograd.grad(
            [result for result, _ in used],
            wanted,
            [gradient for _, gradient in used],
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    )
    return [next(grads) if tensor.requires_grad else None for tensor in inputs]


def unit_by_operations(
    x: Tensor,
    parameters: UnitParameters,
    running: Moments | None,
    epsilon: float,
    *,
    dropout_mask: Tensor | None = None,
    dropout_scale: float = 1.0,
    synchronized: bool = False,
) -> Tensor:
    """BN-ReLU-convolution and dropout on N x C x *sides.

    Args:
        x: maps.
        parameters: scale, shift and weight.
        running: mean and variance to normalise by; None for those of the batch.
        epsilon: added to the variance.
        dropout_mask: pixels x channels of the result; None without dropout.
        dropout_scale: factor of the values that dropout keeps.
        synchronized: normalise over the batch of all ranks.
    """
    scale, shift, weight = parameters
    activated = functional.relu(norm_by_operations(x, scale, shift, running, epsilon, synchronized))
    out = _CONVOLUTION[x.dim()](activated, weight.to(x.dtype), padding=weight.shape[-1] // 2)
    if dropout_mask is None:
        return out
    mask = dropout_mask.view(len(x), *x.shape[2:], -1).movedim(-1, 1)
    return out * mask * dropout_scale


def norm_by_operations(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    running: Sequence[Tensor] | None,
    epsilon: float,
    synchronized: bool = False,
) -> Tensor:
    """Batch normalisation of N x C x *sides, by `running` statistics, or without them by the batch's."""
    real = accumulation_type(x.dtype)
    scale, shift = scale.to(real), shift.to(real)
    if running:
        mean, variance = (statistic.to(real) for statistic in running)
        return functional.batch_norm(x, mean, variance, scale, shift, eps=epsilon)
    if synchronized:
        return global_batch_norm(x, scale, shift, epsilon)[0]
    return functional.batch_norm(x, None, None, scale, shift, training=True, eps=epsilon)


def average_pool(x: Tensor) -> Tensor:
    """Average pooling, kernel 2, stride 2: N x C x *sides -> N x C x *sides / 2."""
    return _AVERAGE_POOL[x.dim()](x, 2)


def max_pool(x: Tensor) -> Tensor:
    """Max pooling, kernel 3, stride 2, padding 1: N x C x *sides -> N x C x *sides / 2."""
    return _MAX_POOL[x.dim()](x, 3, 2, 1)


def block_by_operations(x: Tensor, tensors: BlockTensors, plan: BlockPlan) -> tuple[Tensor, ...]:
    """A dense block on N x C0 x *sides: its features and, with a transition, the transition's result."""

    def unit(index: int, x: Tensor) -> Tensor:
        return unit_by_operations(
            x,
            tensors.parameters[index],
            tensors.running[index] if tensors.running else None,
            plan.epsilons[index],
            dropout_mask=tensors.dropout_masks[index] if tensors.dropout_masks else None,
            dropout_scale=plan.dropout_scale,
            synchronized=plan.synchronized,
        )

    features = x
    for first in range(0, len(tensors.parameters), plan.layer_units):
        out = features
        for index in range(first, first + plan.layer_units):
            out = unit(index, out)
        features = torch.cat([features, out], dim=1)
    if tensors.transition is None:
        return (features,)
    reduced = unit_by_operations(
        features,
        tensors.transition,
        tensors.transition_running,
        plan.epsilons[-1],
        synchronized=plan.synchronized,
    )
    return features, average_pool(reduced) if plan.transition_pools else reduced
