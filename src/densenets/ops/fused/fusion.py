"""Which modules run as one operator: from modules and maps to a choice, and to what runs if fused."""

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
    remade_result,
    stem_reason,
)
from densenets.ops.interception import is_intercepted
from densenets.ops.layers import Kinds, UnitModules

_FUSED = ("fused", "fused-lean")


class Part(NamedTuple):
    """Modules of a network, and how they run.

    Attributes:
        choice: what runs, and why.
        run: N x C x *sides -> what the modules make, the last one's last, in channels-last form; None where
            they run themselves.
        modules: how many run as one.
    """

    choice: Choice
    run: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    modules: int = 1


def choose(requested: Execution, device: torch.device, dtype: torch.dtype, reason: str | None) -> Choice:
    """What runs on such maps, if `reason` does not stand against fused operators.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    name = str(dtype).removeprefix("torch.")
    return choose_execution(requested, device=device.type, dtype=name, ineligibility=reason)


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
    choice = choose(execution, x.device, compute_type(x), reason)
    if choice.execution not in _FUSED:
        return Part(choice)
    eligible = eligible_block(x, block, kinds, behind)
    if eligible.reason is not None and not eligible.layers:
        return Part(choose(execution, x.device, compute_type(x), eligible.reason))
    if eligible.reason is not None:
        behind = None  # the transition alone stands against it
    if behind is None or eligible.transition is None:
        return _block_part(choice, eligible.layers)
    return _block_part(choice, eligible.layers, eligible.transition, behind)


def transition_part(
    x: Tensor, transition: nn.Module, kinds: Kinds, execution: Execution, reason: str | None
) -> Part:
    """A transition that reads x, N x C x *sides, by itself; `reason` is against every fused operator.

    Raises:
        InputError: the fused execution was asked for and cannot run.
    """
    choice = choose(execution, x.device, compute_type(x), reason)
    if choice.execution not in _FUSED:
        return Part(choice)
    eligible = eligible_transition(x, transition, kinds)
    if eligible.reason is not None or eligible.transition is None:
        return Part(choose(execution, x.device, compute_type(x), eligible.reason))
    return _block_part(choice, [], eligible.transition, transition)


def stem_part(x: Tensor, modules: Sequence[nn.Module]) -> Part | None:
    """What follows the first convolution of an ImageNet stem, which made x; on backends that run stems."""
    if len(modules) < 3:
        return None
    norm, relu, pool = modules[:3]
    choice = choose("auto", x.device, compute_type(x), stem_reason(x, norm, relu, pool))
    if choice.backend is None or not runs_stem(choice.backend):
        return Part(choice)
    assert isinstance(norm, _BatchNorm)
    return Part(choice, partial(fused_stem, norm=norm, backend=choice.backend), 3)


def _block_part(
    choice: Choice,
    layers: Sequence[Sequence[UnitModules]],
    unit: UnitModules | None = None,
    transition: nn.Module | None = None,
) -> Part:
    """A fused block, the transition behind it, or both."""
    assert choice.backend is not None
    run = partial(
        fused_dense_block,
        layers=layers,
        transition=unit,
        transition_pool=None if transition is None else transition.get_submodule("pool"),
        backend=choice.backend,
        keep_bottlenecks=choice.execution == "fused",
    )
    return Part(choice, run, bool(layers) + (transition is not None))


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
    assert behind.choice.backend is not None
    run = partial(fused_lean_stem, conv=conv, norm=norm, pixels=pixels, backend=behind.choice.backend)
    return Part(behind.choice, run, 4)


def _may_be_joined(module: nn.Module, kinds: Kinds, execution: Execution) -> bool:
    return type(module) is kinds.transition and module.execution == execution and not is_intercepted(module)
