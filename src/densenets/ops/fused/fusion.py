"""Choice of the consecutive modules that run as one fused operator, and the function that runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.ops.backends.backend import runs_stem
from densenets.ops.backends.unit import compute_type
from densenets.ops.execution import Choice, Execution, choose_execution
from densenets.ops.fused import flops  # noqa: F401 - registers what PyTorch's counter asks
from densenets.ops.fused.call import fused_dense_block, fused_lean_stem, fused_stem
from densenets.ops.fused.eligibility import (
    eligible_block,
    eligible_transition,
    recomputed_result,
    stem_ineligibility,
)
from densenets.ops.interception import is_intercepted
from densenets.ops.layers import BlockClasses, UnitModules

_FUSED = ("fused", "fused-lean")


class Part(NamedTuple):
    """Consecutive modules of a network, and how they run.

    Attributes:
        choice: the execution that runs, and why.
        run: N x C x *sides -> the modules' results, the last one's last, in channels-last form; None where
            the modules run themselves.
        modules: number of modules that run as one.
    """

    choice: Choice
    run: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    modules: int = 1


def choose(requested: Execution, device: torch.device, dtype: torch.dtype, reason: str | None) -> Choice:
    """Choose the execution for maps of a device and type; a `reason` rules out fused operators.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    name = str(dtype).removeprefix("torch.")
    return choose_execution(requested, device=device.type, dtype=name, ineligibility=reason)


def part_of(
    x: Tensor, modules: Sequence[nn.Module], classes: BlockClasses, execution: Execution
) -> Part | None:
    """The first of these modules, which reads x, with those behind it that can be fused with it.

    Returns:
        None for a module that is never fused.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    first = modules[0]
    if type(first) in (classes.block, classes.transition):
        own = cast(Execution, first.execution)
        if own not in ("auto", *_FUSED) or is_intercepted(first):
            return None
        if type(first) is classes.block:
            return block_part(x, modules, classes, own, None)
        return transition_part(x, first, classes, own, None)
    if isinstance(first, _ConvNd) and execution == "fused-lean" and torch.is_grad_enabled():
        return _lean_stem_part(x, modules)
    return stem_part(x, modules) if isinstance(first, _BatchNorm) else None


def block_part(
    x: Tensor, modules: Sequence[nn.Module], classes: BlockClasses, execution: Execution, reason: str | None
) -> Part:
    """A dense block, with the transition behind it where that can be fused with it.

    Args:
        x: the block's input, N x C0 x *sides.
        modules: the block, and the modules behind it, if any.
        classes: of the blocks, layers and transitions that may be fused.
        execution: the requested one.
        reason: why nothing can be fused; None where nothing rules it out.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    block, *others = modules
    behind = next((m for m in others[:1] if _may_be_joined(m, classes, execution)), None)
    choice = choose(execution, x.device, compute_type(x), reason)
    if choice.execution not in _FUSED:
        return Part(choice)
    eligible = eligible_block(x, block, classes, behind)
    if eligible.reason is not None and not eligible.layers:
        return Part(choose(execution, x.device, compute_type(x), eligible.reason))
    if eligible.reason is not None:
        behind = None  # the block can be fused, the transition cannot
    if behind is None or eligible.transition is None:
        return _block_part(choice, eligible.layers)
    return _block_part(choice, eligible.layers, eligible.transition, behind)


def transition_part(
    x: Tensor, transition: nn.Module, classes: BlockClasses, execution: Execution, reason: str | None
) -> Part:
    """A transition that reads x, N x C x *sides, without its block; a `reason` rules out fused operators.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    choice = choose(execution, x.device, compute_type(x), reason)
    if choice.execution not in _FUSED:
        return Part(choice)
    eligible = eligible_transition(x, transition, classes)
    if eligible.reason is not None or eligible.transition is None:
        return Part(choose(execution, x.device, compute_type(x), eligible.reason))
    return _block_part(choice, [], eligible.transition, transition)


def stem_part(x: Tensor, modules: Sequence[nn.Module]) -> Part | None:
    """BN, ReLU and max pool of an ImageNet stem, which read x; fused by backends that run stems."""
    if len(modules) < 3:
        return None
    norm, relu, pool = modules[:3]
    choice = choose("auto", x.device, compute_type(x), stem_ineligibility(x, norm, relu, pool))
    if choice.backend is None:
        return Part(choice)
    if not runs_stem(choice.backend):
        return Part(Choice("reference", None, "the backend that runs blocks has no kernels for it"))
    assert isinstance(norm, _BatchNorm)
    return Part(choice, partial(fused_stem, norm=norm, backend=choice.backend), 3)


def _block_part(
    choice: Choice,
    layers: Sequence[Sequence[UnitModules]],
    unit: UnitModules | None = None,
    transition: nn.Module | None = None,
) -> Part:
    """The fused form of a block, of a transition, or of both."""
    assert choice.backend is not None
    run = partial(
        fused_dense_block,
        layers=layers,
        transition=unit,
        transition_pool=None if transition is None else transition.get_submodule("pool"),
        backend=choice.backend,
        keep_bottlenecks=choice.execution == "fused",
    )
    # torch.compile of PyTorch 2.11 has no bool() of a list.
    return Part(choice, run, (1 if layers else 0) + (transition is not None))


def _lean_stem_part(images: Tensor, modules: Sequence[nn.Module]) -> Part | None:
    """A whole stem, whose backward pass recomputes the convolution's result."""
    result = recomputed_result(images, modules[0])
    behind = None if result is None else stem_part(result, modules[1:])
    if result is None or behind is None or behind.run is None:
        return None
    conv, norm = modules[:2]
    pixels = result.numel() // result.shape[1]
    assert isinstance(conv, _ConvNd)
    assert isinstance(norm, _BatchNorm)
    assert behind.choice.backend is not None
    run = partial(fused_lean_stem, conv=conv, norm=norm, pixels=pixels, backend=behind.choice.backend)
    return Part(behind.choice, run, 4)


def _may_be_joined(module: nn.Module, classes: BlockClasses, execution: Execution) -> bool:
    return type(module) is classes.transition and module.execution == execution and not is_intercepted(module)
