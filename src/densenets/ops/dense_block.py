"""The dense-block op: one signature, and the execution that runs behind it.

An execution decides what is stored and when it is computed. It never touches the weights: all of them
read the same modules, so a checkpoint does not show which one trained it. And it computes what the modules
say: where they are not exactly what `DenseNet` builds, or somebody would see that they are not called, they
run themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.ops.backends.unit import compute_type
from densenets.ops.checkpointed import recomputed, recomputed_dense_block
from densenets.ops.execution import Choice, Execution, check_execution
from densenets.ops.fused.eligibility import is_plain
from densenets.ops.fused.fusion import Part, block_part, choose, part_of, stem_part, transition_part
from densenets.ops.interception import interception_reason, tracing_reason
from densenets.ops.layers import TRANSITION, Kinds
from densenets.ops.memory_format import MapFormat
from densenets.ops.reference import reference_dense_block

_AS_ASKED_FOR = ("reference", "recompute")  # these run whatever the modules are


class PartExecution(NamedTuple):
    """How a part of a network runs.

    Attributes:
        name: "stem", or the name of a dense block or a transition.
        choice: what runs, and why.
    """

    name: str
    choice: Choice

    def __str__(self) -> str:
        """For a log."""
        return f"{self.name}: {self.choice}"


def dense_block(x: Tensor, block: nn.Module, kinds: Kinds, execution: Execution) -> Tensor:
    """Run a dense block (paper, eq. 2): N x C0 x *sides -> N x (C0 + L k) x *sides.

    Channels come in the order in which they were made: the block's input, then layer by layer.

    Args:
        x: maps.
        block: a container of layers, in order.
        kinds: the classes of which a block may be fused.
        execution: the one that was asked for.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    execution = _traced_or(execution, x)
    if execution not in _AS_ASKED_FOR:
        part = block_part(x, [block], kinds, execution, interception_reason())
        if part.run is not None:
            return _run(part, x)
    layers = [layer for layer in block._modules.values() if layer is not None]
    if execution == "recompute":
        return recomputed_dense_block(x, layers, kinds)
    return reference_dense_block(x, layers)


def transition(x: Tensor, module: nn.Module, kinds: Kinds, execution: Execution) -> Tensor:
    """Run a transition (paper, section 3): N x C x *sides -> N x M x *sides / 2.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    execution = _traced_or(execution, x)
    if execution not in _AS_ASKED_FOR:
        part = transition_part(x, module, kinds, execution, interception_reason())
        if part.run is not None:
            return _run(part, x)
    norm, relu, conv, dropout, pool = (module.get_submodule(name) for name in TRANSITION)
    reduced = recomputed([norm, relu, conv], [x]) if execution == "recompute" else conv(relu(norm(x)))
    result: Tensor = pool(dropout(reduced))
    return result


class FeatureRun:
    """A pass through modules one after the other, some of which run as one where nobody could see it.

    These are what follows the convolution of an ImageNet stem (with it in "fused-lean"), and a dense block
    with the transition behind it. Whatever is not fused gets its maps in the memory format of x.

    Args:
        x: what the first module reads, N x C x *sides.
        kinds: the classes of which a block may be fused.
        execution: the one that was asked for.
    """

    def __init__(self, x: Tensor, kinds: Kinds, execution: Execution) -> None:
        execution = _traced_or(execution, x)
        self._kinds, self._execution = kinds, execution
        may_fuse = (
            execution not in _AS_ASKED_FOR and interception_reason() is None and _may_be_fused(execution, x)
        )
        self._format = MapFormat.of(x) if may_fuse else None  # None: every module runs itself
        self._is_inside, self._is_first = False, True  # in the format of the operators; before any module

    def next(self, x: Tensor, modules: Sequence[nn.Module]) -> tuple[Tensor, Callable[[Tensor], Any], int]:
        """The maps for the first of these modules, what runs on them, and how many modules that runs.

        What runs is the module, or what returns the results of several, the last one's last.
        """
        module = modules[0]
        if self._format is None:
            return x, module, 1
        part = part_of(x, modules, self._kinds, self._execution)
        is_fused = part is not None and part.run is not None
        # PyTorch's own modules are faster in the format of the operators, and give the same values.
        joins = is_fused or (is_plain(module) and (self._is_inside or self._is_first))
        if joins != self._is_inside:
            x, self._is_inside = (self._format.enter(x) if joins else self._format.leave(x)), joins
        self._is_first = False
        if part is None or part.run is None:
            return x, module, 1 if part is None else part.modules
        return x, part.run, part.modules

    def end(self, x: Tensor) -> Tensor:
        """The last module's maps in the format of those that were given."""
        return x if self._format is None else self._format.leave(x)


def explain_execution(requested: Execution, device: torch.device, dtype: torch.dtype) -> Choice:
    """What runs for DenseNet's own modules, and why.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    return choose(requested, device, dtype, None)


def explain_modules(x: Tensor, modules: Sequence[nn.Module], kinds: Kinds, execution: Execution) -> Choice:
    """What runs for a dense block, a transition, or what follows the convolution of a stem, that reads x.

    Unlike the network itself this does not refuse a fused execution that cannot run: it says why.

    Raises:
        InputError: no execution has this name.
    """
    check_execution(execution)
    traced = tracing_reason(x)
    if traced is not None:
        return Choice("reference", None, traced)
    if execution in _AS_ASKED_FOR:
        return Choice(execution, None, "as asked for")
    reason, first = interception_reason(), modules[0]
    try:
        if len(modules) > 1:
            part = None if reason else stem_part(x, modules)
            return part.choice if part else choose("auto", x.device, compute_type(x), reason)
        if type(first) is kinds.transition:
            return transition_part(x, first, kinds, execution, reason).choice
        return block_part(x, modules, kinds, execution, reason).choice
    except InputError as error:
        return Choice("reference", None, str(error))


def _traced_or(execution: Execution, x: Tensor) -> Execution:
    """The execution that was asked for; a graph that is traced gets the operations of the reference."""
    return execution if execution == "reference" or tracing_reason(x) is None else "reference"


def _may_be_fused(execution: Execution, x: Tensor) -> bool:
    return x.dim() > 2 and choose(execution, x.device, compute_type(x), None).execution not in _AS_ASKED_FOR


def _run(part: Part, x: Tensor) -> Tensor:
    """Run a fused part alone: maps come and go in the memory format of x."""
    assert part.run is not None
    layout = MapFormat.of(x)
    return layout.leave(part.run(layout.enter(x))[-1])
