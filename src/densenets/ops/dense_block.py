"""The door to the dense block: one signature, and the executions that stand behind it.

An execution decides what is stored and when it is computed. It never touches the weights: all of them
read the same modules, so a checkpoint does not show which one trained it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.ops.execution import Choice, Execution, NativeState, choose_execution
from densenets.ops.fused import fused_dense_block, fused_lean_stem, fused_stem, fused_transition
from densenets.ops.kernels import compute_type
from densenets.ops.layers import DenseLayerModules, TransitionModules, UnitModules
from densenets.ops.native.library import native_state
from densenets.ops.obstacles import (
    block_obstacle,
    joint_obstacle,
    remade_result,
    stem_obstacle,
    transform_obstacle,
    transition_obstacle,
)
from densenets.ops.recompute import recomputed_dense_block, recomputed_norm_relu_conv
from densenets.ops.reference import reference_dense_block

_AS_ASKED_FOR = ("reference", "recompute")  # these run whatever the modules are


def dense_block(x: Tensor, layers: Sequence[DenseLayerModules], execution: Execution) -> Tensor:
    """Run a dense block (paper, eq. 2): N x C0 x *sides -> N x (C0 + L k) x *sides.

    Channels come in the order in which they were made: the block's input, then layer by layer.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    chains = _chains(layers)
    obstacle = None if execution in _AS_ASKED_FOR else block_obstacle(x, layers, chains)
    choice = _choose(execution, x.device, compute_type(x), obstacle)
    if choice.execution == "reference":
        return reference_dense_block(x, layers)
    if choice.execution == "recompute":
        return recomputed_dense_block(x, layers)
    keep_bottlenecks = choice.execution == "fused"
    features, _ = fused_dense_block(x, chains, native=choice.native, keep_bottlenecks=keep_bottlenecks)
    return features


def dense_block_and_transition(
    x: Tensor, layers: Sequence[DenseLayerModules], modules: TransitionModules, execution: Execution
) -> Tensor:
    """Run a dense block and the transition behind it: N x C0 x *sides -> N x M x *sides / 2.

    Fused they are one operator: the transition is then one more reader of the block's channels, which takes
    no statistics of its own and whose gradients go where those of the layers go.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    chains = _chains(layers)
    units = modules.units()
    obstacle = (
        "as asked for" if execution in _AS_ASKED_FOR else joint_obstacle(x, layers, chains, modules, units)
    )
    if obstacle is None:
        choice = _choose(execution, x.device, compute_type(x), None)
        if choice.execution in ("fused", "fused-lean"):
            (unit,) = units
            pools = unit.drop == 0
            _, reduced = fused_dense_block(
                x,
                chains,
                unit,
                native=choice.native,
                keep_bottlenecks=choice.execution == "fused",
                pool=pools,
            )
            return _behind(reduced, modules, pools)
    return transition(dense_block(x, layers, execution), modules, execution)


def transition(x: Tensor, modules: TransitionModules, execution: Execution) -> Tensor:
    """Run a transition (paper, section 3): N x C x *sides -> N x M x *sides / 2.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    units = modules.units()
    obstacle = None if execution in _AS_ASKED_FOR else transition_obstacle(x, modules, units)
    choice = _choose(execution, x.device, compute_type(x), obstacle)
    if choice.execution == "reference":
        return modules.reduce(modules.activate(x))
    if choice.execution == "recompute":
        return modules.pool(modules.dropout(recomputed_norm_relu_conv([x], modules.norm, modules.conv)))
    (unit,) = units
    pools = unit.drop == 0
    return _behind(fused_transition(x, unit, native=choice.native, pool=pools), modules, pools)


def stem(
    images: Tensor, conv: nn.Module, norm: nn.Module, relu: nn.Module, pool: nn.Module, execution: Execution
) -> Tensor:
    """The stem of an ImageNet network: images N x channels x *sides -> N x C x *sides / 4.

    What follows the convolution is fused in the native kernels where nothing stands against it, run by the
    modules else. "fused-lean" makes the convolution's result again in the backward pass.
    """
    if execution == "fused-lean" and torch.is_grad_enabled():
        result = remade_result(images, conv)
        if result is not None and _fuses_stem(result, norm, relu, pool):
            pixels = result.numel() // result.shape[1]
            return fused_lean_stem(images, cast(_ConvNd, conv), cast(_BatchNorm, norm), pixels)
    x = conv(images)
    if execution not in _AS_ASKED_FOR and _fuses_stem(x, norm, relu, pool):
        return fused_stem(x, cast(_BatchNorm, norm))
    return pool(relu(norm(x)))


def explain_execution(requested: Execution, device: torch.device, dtype: torch.dtype) -> Choice:
    """What runs for DenseNet's own modules, and why.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    return _choose(requested, device, dtype, None)


def _chains(layers: Sequence[DenseLayerModules]) -> list[Sequence[UnitModules]]:
    """The units of each layer; none of one that doesn't say what it computes."""
    return [layer.units() if hasattr(layer, "units") else [] for layer in layers]


def _behind(reduced: Tensor, modules: TransitionModules, pools: bool) -> Tensor:
    """What follows a fused transition: dropout between convolution and pooling, which then do not commute."""
    return reduced if pools else modules.pool(modules.dropout(reduced))


def _fuses_stem(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> bool:
    return _choose("auto", x.device, compute_type(x), stem_obstacle(x, norm, relu, pool)).native


def _choose(requested: Execution, device: torch.device, dtype: torch.dtype, obstacle: str | None) -> Choice:
    return choose_execution(
        requested,
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        native=_native(),
        obstacle=obstacle or transform_obstacle(),
    )


def _native() -> NativeState:
    return native_state()


# As torch.compiler.assume_constant_result does, which would load the compiler: a second for everybody.
_native._dynamo_marked_constant = True  # type: ignore[attr-defined]
