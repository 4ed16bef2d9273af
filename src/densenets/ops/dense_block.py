"""The door to the dense block: one signature, and the executions that stand behind it.

An execution decides what is stored and when it is computed. It never touches the weights: all of them
read the same modules, so a checkpoint does not show which one trained it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.ops.execution import Choice, Execution, NativeState, choose_execution
from densenets.ops.fused import (
    fused_dense_block,
    fused_stem,
    fused_transition,
    obstacle,
    stem_obstacle,
)
from densenets.ops.layers import DenseLayerModules, TransitionModules, UnitModules
from densenets.ops.native.library import native_state
from densenets.ops.recompute import recomputed_dense_block, recomputed_norm_relu_conv
from densenets.ops.reference import reference_dense_block


def dense_block(x: Tensor, layers: Sequence[DenseLayerModules], execution: Execution) -> Tensor:
    """Run a dense block (paper, eq. 2): N x C0 x *sides -> N x (C0 + L k) x *sides.

    Channels come in the order in which they were made: the block's input, then layer by layer.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    units = [unit for layer in layers for unit in layer.units()]
    choice = _choice(x, units, [module for layer in layers for module in layer.modules()], execution)
    if choice.execution == "reference":
        return reference_dense_block(x, layers)
    if choice.execution == "recompute":
        return recomputed_dense_block(x, layers)
    return fused_dense_block(x, layers, native=choice.native, keep_bottlenecks=choice.execution == "fused")


def transition(x: Tensor, modules: TransitionModules, execution: Execution) -> Tensor:
    """Run a transition (paper, section 3): N x C x *sides -> N x M x *sides / 2.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    unit = UnitModules(modules.norm, modules.conv)
    _, *inside = modules.modules()
    choice = _choice(x, [unit], inside, execution)
    if choice.execution == "reference" or min(x.shape[2:]) < 2:  # too small to pool: the pooling says so
        return modules.reduce(modules.activate(x))
    if choice.execution == "recompute":
        return modules.pool(modules.dropout(recomputed_norm_relu_conv([x], modules.norm, modules.conv)))
    if modules.training and modules.dropout.p > 0:
        # Dropout stands between convolution and pooling, which then do not commute.
        return modules.pool(modules.dropout(fused_transition(x, unit, native=choice.native, pool=False)))
    return fused_transition(x, unit, native=choice.native, pool=True)


def stem(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module, execution: Execution) -> Tensor:
    """What follows the first convolution of an ImageNet network: N x C x *sides -> N x C x *sides / 2.

    Fused in the native kernels where nothing stands against it, by the modules else.
    """
    if execution not in ("reference", "recompute"):
        choice = _choose("auto", x.device, _dtype(x), stem_obstacle(x, norm, relu, pool))
        if choice.native and isinstance(norm, _BatchNorm):
            return fused_stem(x, norm)
    return pool(relu(norm(x)))


def explain_execution(requested: Execution, device: torch.device, dtype: torch.dtype) -> Choice:
    """What runs for DenseNet's own modules, and why.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    return _choose(requested, device, dtype, None)


def _choice(
    x: Tensor,
    units: Sequence[UnitModules],
    modules: Sequence[nn.Module],
    execution: Execution,
) -> Choice:
    if execution in ("reference", "recompute"):
        return Choice(execution, False, "as asked for")
    return _choose(execution, x.device, _dtype(x), obstacle(x, units, modules))


def _dtype(x: Tensor) -> torch.dtype:
    """That a unit computes in: x's, or autocast's."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _choose(requested: Execution, device: torch.device, dtype: torch.dtype, obstacle: str | None) -> Choice:
    return choose_execution(
        requested,
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        native=_native(),
        obstacle=obstacle,
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _native() -> NativeState:
    return native_state()
