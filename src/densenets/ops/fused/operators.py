"""The fused block and transition as PyTorch operators: `densenets::dense_block`, `densenets::transition`.

A block computes the transition behind it as well, where there is one; the second operator is for a transition
that stands alone.

Pure functions: statistics of the batch leave them as results, dropout's masks come in. They have rules for
fake tensors and for autograd, so torch.compile, torch.export, autocast and DistributedDataParallel see one
operator with a backward pass like any other's. A backward pass that is recorded, to be differentiated again,
runs in the operations of the reference (`densenets.ops.fused.differentiable`).

Lists run through the units (BN-ReLU-convolutions) in the order of the data: `parameters` has scale, shift and
weight of each in turn, `running` mean and variance (nothing in training), `keep` dropout's masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densenets.ops.backends.cpp.kernels import NativeKernels
from densenets.ops.backends.eager import PyTorchKernels
from densenets.ops.fused.differentiable import (
    average_pool,
    block_by_operations,
    gradients_by_operations,
    needs_operations,
    unit_by_operations,
)
from densenets.ops.fused.plan import (
    BlockPlan,
    BlockResult,
    BlockTensors,
    TransitionPlan,
    empty_result,
    empty_transition,
)
from densenets.ops.fused.schedule import block_backward, block_forward
from densenets.ops.fused.transition import transition_backward, transition_forward
from densenets.ops.fused.unit import Kernels, Moments, UnitParameters, accumulation_type, ready_list


@torch.library.custom_op("densenets::dense_block", mutates_args=())
def dense_block_operator(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    keep: Sequence[Tensor],
    epsilons: Sequence[float],
    drop: float,
    units: int,
    training: bool,
    synchronized: bool,
    reduces: bool,
    pools: bool,
    native: bool,
    keep_bottlenecks: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """A dense block on N x C0 x *sides: its maps in channels-last form, then the rest of `BlockResult`.

    With `reduces` the lists end with the unit of the transition behind it, whose result comes last; `pools`
    says whether it pools.
    """
    plan = _block_plan(epsilons, drop, units, training, synchronized, reduces, pools)
    tensors = _block_tensors(x.dtype, parameters, running, keep, reduces)
    result = block_forward(x, tensors, plan, _kernels(native), keep_bottlenecks=keep_bottlenecks)
    return _images_first(result)


@dense_block_operator.register_fake
def _(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    keep: Sequence[Tensor],
    epsilons: Sequence[float],
    drop: float,
    units: int,
    training: bool,
    synchronized: bool,
    reduces: bool,
    pools: bool,
    native: bool,
    keep_bottlenecks: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    plan = _block_plan(epsilons, drop, units, training, synchronized, reduces, pools)
    tensors = _block_tensors(x.dtype, parameters, running, keep, reduces)
    return _images_first(empty_result(x, tensors, plan, keep_bottlenecks=keep_bottlenecks))


@torch.library.custom_op("densenets::dense_block_backward", mutates_args=())
def dense_block_backward_operator(
    gradient: Tensor | None,
    reduced_gradient: Tensor | None,
    result: Sequence[Tensor],
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    keep: Sequence[Tensor],
    epsilons: Sequence[float],
    drop: float,
    units: int,
    training: bool,
    synchronized: bool,
    reduces: bool,
    pools: bool,
    native: bool,
) -> list[Tensor]:
    """Gradients of x and of all parameters; `result` is what the forward operator returned, but the last.

    One of the two gradients may be missing; without that of the transition's result, the lists have no
    transition.
    """
    plan = _block_plan(epsilons, drop, units, training, synchronized, reduces, pools)
    tensors = _block_tensors(result[0].dtype, parameters, running, keep, reduces)
    features, bottlenecks, feature_moments, bottleneck_moments = result
    made = BlockResult(
        features.movedim(1, -1), bottlenecks, feature_moments, bottleneck_moments, features.new_empty(0)
    )
    x_gradient, found = block_backward(gradient, reduced_gradient, made, tensors, plan, _kernels(native))
    return [x_gradient, *_in_types_of(parameters, found)]


@dense_block_backward_operator.register_fake
def _(
    gradient: Tensor | None,
    reduced_gradient: Tensor | None,
    result: Sequence[Tensor],
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    keep: Sequence[Tensor],
    epsilons: Sequence[float],
    drop: float,
    units: int,
    training: bool,
    synchronized: bool,
    reduces: bool,
    pools: bool,
    native: bool,
) -> list[Tensor]:
    batch, _, *sides = result[0].shape
    x_gradient = result[0].new_empty((batch, *sides, parameters[0].shape[0])).movedim(-1, 1)
    return [x_gradient, *[parameter.new_empty(parameter.shape) for parameter in parameters]]


@torch.library.custom_op("densenets::transition", mutates_args=())
def transition_operator(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    epsilon: float,
    pool: bool,
    training: bool,
    synchronized: bool,
    native: bool,
) -> tuple[Tensor, Tensor]:
    """BN-ReLU-pool-conv1x1 on N x C x *sides: its maps in channels-last form, and the moments, 2 x C."""
    plan = TransitionPlan(epsilon=epsilon, pool=pool, training=training, synchronized=synchronized)
    (unit,) = _units(x.dtype, parameters)
    moments = next(iter(_moments(x.dtype, running)), None)
    return transition_forward(x, unit, moments, plan, _kernels(native))


@transition_operator.register_fake
def _(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    epsilon: float,
    pool: bool,
    training: bool,
    synchronized: bool,
    native: bool,
) -> tuple[Tensor, Tensor]:
    moments = x.new_empty((2, x.shape[1] if training else 0), dtype=accumulation_type(x.dtype))
    return empty_transition(x, parameters[2].shape[0], pool=pool).movedim(-1, 1), moments


@torch.library.custom_op("densenets::transition_backward", mutates_args=())
def transition_backward_operator(
    gradient: Tensor,
    x: Tensor,
    moments: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    epsilon: float,
    pool: bool,
    training: bool,
    synchronized: bool,
    native: bool,
) -> list[Tensor]:
    """Gradients of x and of all parameters."""
    plan = TransitionPlan(epsilon=epsilon, pool=pool, training=training, synchronized=synchronized)
    (unit,) = _units(x.dtype, parameters)
    used = Moments(*moments) if training else _moments(x.dtype, running)[0]
    x_gradient, found = transition_backward(gradient, x, unit, used, plan, _kernels(native))
    return [x_gradient, *_in_types_of(parameters, [found])]


@transition_backward_operator.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    moments: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    epsilon: float,
    pool: bool,
    training: bool,
    synchronized: bool,
    native: bool,
) -> list[Tensor]:
    x_gradient = torch.empty_like(x.movedim(1, -1), memory_format=torch.contiguous_format).movedim(-1, 1)
    return [x_gradient, *[parameter.new_empty(parameter.shape) for parameter in parameters]]


def _set_up_block(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, parameters, running, keep, *ctx.plan, _ = inputs
    results = output[:-1]  # the transition's result isn't needed
    ctx.counts = (len(results), len(parameters), len(running))
    ctx.save_for_backward(*results, *parameters, *running, *keep)
    # What only the backward pass reads has no gradient, and none is made for it.
    ctx.set_materialize_grads(False)


def _block_backward(ctx: Any, gradient: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
    results, parameters, running = ctx.counts
    saved = ctx.saved_tensors
    lists, at = [], 0
    for count in (results, parameters, running, len(saved) - results - parameters - running):
        lists.append(list(saved[at : at + count]))
        at += count
    none = [[None] * len(tensors) for tensors in lists[2:]]
    if gradient is None and others[-1] is None:
        found: tuple[Tensor | None, list[Any]] = None, [None] * parameters
    elif needs_operations(gradient, others[-1]):
        found = _block_gradients_by_operations(ctx, gradient, others[-1], lists)
    else:
        found = _block_gradients(gradient, others[-1], lists, ctx.plan)
    return (*found, *none, *[None] * len(ctx.plan), None)


def _block_gradients(
    gradient: Tensor | None, reduced_gradient: Tensor | None, lists: list[list[Tensor]], plan: list[Any]
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Of x and of all parameters; `lists` are results, parameters, running and keep."""
    results, parameters, running, keep = lists
    missing: list[Tensor | None] = []
    epsilons, drop, units, training, synchronized, reduces, pools, native = plan
    if reduces and reduced_gradient is None:
        # As if there were no transition.
        parameters, running, epsilons = parameters[:-3], running[:-2], epsilons[:-1]
        reduces, missing = False, [None] * 3
    settings = (epsilons, drop, units, training, synchronized, reduces, pools, native)
    x_gradient, *found = dense_block_backward_operator(
        gradient, reduced_gradient, results, parameters, running, keep, *settings
    )
    return x_gradient, [*found, *missing]


def _block_gradients_by_operations(
    ctx: Any, gradient: Tensor | None, reduced_gradient: Tensor | None, lists: list[list[Tensor]]
) -> tuple[Tensor | None, list[Tensor | None]]:
    """The same, such that it can be differentiated again."""
    (features, *_), parameters, running, keep = lists
    epsilons, drop, units, _, synchronized, reduces, pools, _ = ctx.plan
    made = sum(weight.shape[0] for weight in parameters[2::3][units - 1 : len(epsilons) - reduces : units])

    def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        return block_by_operations(
            x, parameters, running, keep, epsilons, drop, units, synchronized, reduces, pools
        )

    gradients = (gradient, reduced_gradient) if reduces else (gradient,)
    # The first channels of what a block makes are what it has read.
    x = features[:, : features.shape[1] - made]
    x_gradient, *found = gradients_by_operations(forward, [x, *parameters], gradients)
    return x_gradient if ctx.needs_input_grad[0] else None, found


def _set_up_transition(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, parameters, running, *ctx.plan = inputs
    ctx.save_for_backward(x, output[1], *parameters, *running)
    ctx.set_materialize_grads(False)


def _transition_backward(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Any, ...]:
    x, moments, *lists = ctx.saved_tensors
    parameters, running = lists[:3], lists[3:]
    found: list[Any]
    if gradient is None:
        x_gradient, found = None, [None] * len(parameters)
    elif needs_operations(gradient):
        epsilon, pool, _, synchronized, _ = ctx.plan

        def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
            made = unit_by_operations(x, parameters, running, epsilon, synchronized=synchronized)
            return (average_pool(made) if pool else made,)

        x_gradient, *found = gradients_by_operations(forward, [x, *parameters], [gradient])
    else:
        x_gradient, *found = transition_backward_operator(
            gradient, x, moments, parameters, running, *ctx.plan
        )
    return (x_gradient, found, [None] * len(running), *[None] * len(ctx.plan))


dense_block_operator.register_autograd(_block_backward, setup_context=_set_up_block)
transition_operator.register_autograd(_transition_backward, setup_context=_set_up_transition)


def _kernels(native: bool) -> Kernels:
    return NativeKernels() if native else PyTorchKernels()


def _block_plan(
    epsilons: Sequence[float],
    drop: float,
    units: int,
    training: bool,
    synchronized: bool,
    reduces: bool,
    pools: bool,
) -> BlockPlan:
    transition = TransitionPlan(
        epsilon=epsilons[-1], pool=pools, training=training, synchronized=synchronized
    )
    return BlockPlan(
        units=units,
        epsilons=tuple(epsilons),
        drop=drop,
        training=training,
        synchronized=synchronized,
        transition=transition if reduces else None,
    )


def _block_tensors(
    dtype: torch.dtype,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    keep: Sequence[Tensor],
    reduces: bool,
) -> BlockTensors:
    of_units, moments = _units(dtype, parameters), _moments(dtype, running)
    return BlockTensors(
        parameters=of_units[:-1] if reduces else of_units,
        running=moments[:-1] if reduces else moments,
        keep=list(keep),
        transition=of_units[-1] if reduces else None,
        transition_running=moments[-1] if reduces and moments else None,
    )


def _units(dtype: torch.dtype, parameters: Sequence[Tensor]) -> list[UnitParameters]:
    wide = _wide(dtype, parameters)
    return [UnitParameters(*wide[i : i + 3]) for i in range(0, len(wide), 3)]


def _moments(dtype: torch.dtype, running: Sequence[Tensor]) -> list[Moments]:
    wide = _wide(dtype, running)
    return [Moments(*wide[i : i + 2]) for i in range(0, len(wide), 2)]


def _wide(dtype: torch.dtype, tensors: Sequence[Tensor]) -> list[Tensor]:
    return ready_list(tensors, accumulation_type(dtype))


def _in_types_of(parameters: Sequence[Tensor], found: Sequence[UnitParameters]) -> list[Tensor]:
    flat = [gradient for unit in found for gradient in unit]
    return [gradient.to(parameter.dtype) for gradient, parameter in zip(flat, parameters, strict=True)]


def _images_first(result: BlockResult) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    reduced = result.reduced.movedim(-1, 1) if result.reduced.dim() > 1 else result.reduced
    return (result.features.movedim(-1, 1), *result[1:-1], reduced)
