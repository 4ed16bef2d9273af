"""Which modules run as one operator: from modules and maps to a choice, and to what runs if fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.ops.backends.cpp.library import native_state
from densenets.ops.execution import Choice, Execution, NativeState, choose_execution
from densenets.ops.fused import flops  # noqa: F401 - registers what PyTorch's counter asks
from densenets.ops.fused.call import fused_dense_block, fused_lean_stem, fused_stem, fused_transition
from densenets.ops.fused.eligibility import (
    Eligible,
    eligible_block,
    eligible_transition,
    remade_result,
    stem_reason,
)
from densenets.ops.fused.unit import compute_type
from densenets.ops.interception import is_intercepted
from densenets.ops.layers import Kinds

_FUSED = ("fused", "fused-lean")


class Part(NamedTuple):
    """Modules of a network, and how they run.

    Attributes:
        choice: what runs, and why.
        run: N x C x *sides -> what they make of it, in channels-last form; None where they run themselves.
        modules: how many run as one.
    """

    choice: Choice
    run: Callable[[Tensor], Tensor] | None = None
    modules: int = 1


def choose(requested: Execution, device: torch.device, dtype: torch.dtype, reason: str | None) -> Choice:
    """What runs on such maps, if `reason` does not stand against fused operators.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    return choose_execution(
        requested,
        device=device.type,
        dtype=str(dtype).removeprefix("torch."),
        native=_native(),
        obstacle=reason,
    )


def part_of(x: Tensor, modules: Sequence[nn.Module], kinds: Kinds, execution: Execution) -> Part | None:
    """The first of these modules, which read x, and those behind it that run as one with it.

    Returns:
        None for modules that are never fused.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    first = modules[0]
    if type(first) in (kinds.block, kinds.transition):
        own = cast(Execution, first.execution)
        if own not in ("auto", *_FUSED) or is_intercepted(first):
            return None
        if type(first) is kinds.block:
            return block_part(x, modules, kinds, own, None)
        return transition_part(x, first, kinds, own, None)
    if isinstance(first, _ConvNd) and execution == "fused-lean" and torch.is_grad_enabled():
        return _lean_stem_part(x, modules)
    return stem_part(x, modules) if isinstance(first, _BatchNorm) else None


def block_part(
    x: Tensor, modules: Sequence[nn.Module], kinds: Kinds, execution: Execution, reason: str | None
) -> Part:
    """A dense block, with what stands behind it where that is its transition and can be fused with it.

    Args:
        x: what the block reads, N x C0 x *sides.
        modules: the block, and perhaps others.
        kinds: the classes of which a block may be fused.
        execution: the one that was asked for.
        reason: against every fused operator.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    block, *others = modules
    behind = next((m for m in others[:1] if _may_be_joined(m, kinds, execution)), None)
    found = eligible_block(x, block, kinds, behind) if reason is None else Eligible([], None, reason)
    if found.reason is not None and found.chains:
        found, behind = found._replace(reason=None), None  # the transition alone stands against it
    choice = choose(execution, x.device, compute_type(x), found.reason)
    if choice.execution not in _FUSED:
        return Part(choice)
    keep_bottlenecks = choice.execution == "fused"
    if behind is None or found.transition is None:

        def run(x: Tensor) -> Tensor:
            features, _ = fused_dense_block(
                x, found.chains, native=choice.native, keep_bottlenecks=keep_bottlenecks
            )
            return features

        return Part(choice, run)
    unit, pools = found.transition, found.transition.drop == 0

    def run_both(x: Tensor) -> Tensor:
        _, reduced = fused_dense_block(
            x, found.chains, unit, native=choice.native, keep_bottlenecks=keep_bottlenecks, pool=pools
        )
        return reduced if pools else _behind(reduced, behind)

    return Part(choice, run_both, 2)


def transition_part(
    x: Tensor, transition: nn.Module, kinds: Kinds, execution: Execution, reason: str | None
) -> Part:
    """A transition that reads x, N x C x *sides, by itself; `reason` is against every fused operator.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    found = eligible_transition(x, transition, kinds) if reason is None else Eligible([], None, reason)
    choice = choose(execution, x.device, compute_type(x), found.reason)
    if choice.execution not in _FUSED or found.transition is None:
        return Part(choice)
    unit, pools = found.transition, found.transition.drop == 0

    def run(x: Tensor) -> Tensor:
        reduced = fused_transition(x, unit, native=choice.native, pool=pools)
        return reduced if pools else _behind(reduced, transition)

    return Part(choice, run)


def stem_part(x: Tensor, modules: Sequence[nn.Module]) -> Part | None:
    """What follows the first convolution of an ImageNet stem, which made x; in the native kernels only."""
    if len(modules) < 3:
        return None
    norm, relu, pool = modules[:3]
    choice = choose("auto", x.device, compute_type(x), stem_reason(x, norm, relu, pool))
    if not choice.native:
        return Part(choice)
    assert isinstance(norm, _BatchNorm)
    return Part(choice, lambda x: fused_stem(x, norm), 3)


def _lean_stem_part(images: Tensor, modules: Sequence[nn.Module]) -> Part | None:
    """A whole stem, whose backward pass makes the convolution's result again."""
    result = remade_result(images, modules[0])
    behind = None if result is None else stem_part(result, modules[1:])
    if result is None or behind is None or behind.run is None:
        return None
    conv, norm = modules[:2]
    pixels = result.numel() // result.shape[1]
    assert isinstance(conv, _ConvNd)
    assert isinstance(norm, _BatchNorm)
    return Part(behind.choice, lambda images: fused_lean_stem(images, conv, norm, pixels), 4)


def _may_be_joined(module: nn.Module, kinds: Kinds, execution: Execution) -> bool:
    return type(module) is kinds.transition and module.execution == execution and not is_intercepted(module)


def _behind(reduced: Tensor, transition: nn.Module) -> Tensor:
    """Dropout between convolution and pooling, which then do not commute."""
    pool, dropout = transition.get_submodule("pool"), transition.get_submodule("dropout")
    result: Tensor = pool(dropout(reduced))
    return result


def _native() -> NativeState:
    return native_state()


# As torch.compiler.assume_constant_result does, which would load the compiler: a second for everybody.
_native._dynamo_marked_constant = True  # type: ignore[attr-defined]
