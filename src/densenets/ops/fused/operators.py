"""The fused block as an operator of PyTorch: `densenets::dense_block`, with its backward pass.

Pure functions: batch statistics are results, dropout masks are arguments. They have rules for fake tensors
and for autograd, so torch.compile, torch.export, autocast and DistributedDataParallel see one operator with
a backward pass like any other's. A backward pass that is recorded, to be differentiated again, runs in the
operations of the reference (`densenets.ops.fused.differentiable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densenets.ops.backends.block_plan import BlockPlan, BlockTensors, empty_result
from densenets.ops.fused.block_schedule import block_backward, block_forward, channels_first
from densenets.ops.fused.differentiable import block_by_operations, grads_by_operations, needs_operations

dense_block_operator = torch.library.custom_op("densenets::dense_block", block_forward, mutates_args=())
dense_block_backward_operator = torch.library.custom_op(
    "densenets::dense_block_backward", block_backward, mutates_args=()
)


@dense_block_operator.register_fake
def _(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    dropout_masks: Sequence[Tensor],
    epsilons: Sequence[float],
    dropout: float,
    plan: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    block_plan = BlockPlan.parse(plan, epsilons, dropout)
    tensors = BlockTensors.of_lists(parameters, running, dropout_masks, block_plan)
    return channels_first(empty_result(x, tensors, block_plan))


@dense_block_backward_operator.register_fake
def _(
    gradients: Sequence[Tensor | None],
    results: Sequence[Tensor],
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    dropout_masks: Sequence[Tensor],
    epsilons: Sequence[float],
    dropout: float,
    plan: str,
) -> list[Tensor]:
    batch, _, *sides = results[0].shape
    x_gradient = results[0].new_empty((batch, *sides, parameters[0].shape[0])).movedim(-1, 1)
    return [x_gradient, *[parameter.new_empty(parameter.shape) for parameter in parameters]]


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, parameters, running, dropout_masks, epsilons, dropout, plan = inputs
    ctx.plan = (plan, epsilons, dropout)
    results = output[:-1]  # the transition's result isn't needed
    ctx.counts = (len(results), len(parameters), len(running), len(dropout_masks))
    ctx.save_for_backward(*results, *parameters, *running, *dropout_masks)
    # Results that only the backward pass reads have no gradient; None stands for it, not zeros.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
    gradients = (gradient, others[-1])  # of the features, of the transition's result
    lists = _split(ctx.saved_tensors, ctx.counts)
    _, parameters, running, dropout_masks = lists
    grads: list[Tensor | None] = [None] * (1 + len(parameters))
    if any(gradient is not None for gradient in gradients):
        recorded = needs_operations(*gradients)
        grads = (
            _grads_by_operations(ctx, gradients, lists) if recorded else _grads(gradients, lists, ctx.plan)
        )
    x_gradient, *parameter_grads = grads
    nones = ([None] * len(running), [None] * len(dropout_masks))
    return x_gradient, parameter_grads, *nones, None, None, None


def _grads(
    gradients: tuple[Tensor | None, Tensor | None],
    lists: list[list[Tensor]],
    plan: tuple[str, Sequence[float], float],
) -> list[Tensor | None]:
    """Gradients of x and of all parameters, by the operator."""
    results, parameters, running, dropout_masks = lists
    text, epsilons, dropout = plan
    block_plan = BlockPlan.parse(text, epsilons, dropout)
    if gradients[1] is not None or not block_plan.has_transition:
        return list(dense_block_backward_operator(gradients, *lists, epsilons, dropout, text))
    # As if there were no transition.
    grads = dense_block_backward_operator(
        gradients,
        results,
        parameters[:-3],
        running[:-2],
        dropout_masks,
        epsilons[:-1],
        dropout,
        block_plan.without_transition().text,
    )
    return [*grads, None, None, None]


def _grads_by_operations(
    ctx: Any, gradients: tuple[Tensor | None, Tensor | None], lists: list[list[Tensor]]
) -> list[Tensor | None]:
    """Gradients of x and of all parameters, which can be differentiated again."""
    (features, *_), parameters, running, dropout_masks = lists
    plan = BlockPlan.parse(*ctx.plan)

    def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        tensors = BlockTensors.of_lists(parameters, running, dropout_masks, plan)
        return block_by_operations(x, tensors, plan)

    # The first channels of a block's features are its input, and its first scale has one for each.
    x = features[:, : parameters[0].shape[0]]
    grads = grads_by_operations(
        forward, [x, *parameters], gradients if plan.has_transition else gradients[:1]
    )
    return [grads[0] if ctx.needs_input_grad[0] else None, *grads[1:]]


dense_block_operator.register_autograd(_backward, setup_context=_set_up)


def _split(tensors: Sequence[Tensor], counts: Sequence[int]) -> list[list[Tensor]]:
    """Split tensors into consecutive lists of these lengths."""
    lists, start = [], 0
    for count in counts:
        lists.append(list(tensors[start : start + count]))
        start += count
    return lists
