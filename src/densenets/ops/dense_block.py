"""The dense-block op: one signature, and the execution that runs behind it.

An execution decides what is stored and when it is computed. It never touches the weights: all executions
read the same modules, so a checkpoint does not show which one trained it. And it computes what the modules
compute: where they are not exactly what `DenseNet` builds, or hooks, modes or patches would miss their calls,
the modules run themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.ops.backends.unit import compute_type
from densenets.ops.checkpointed import checkpoint_modules, recomputed_dense_block
from densenets.ops.execution import Choice, Execution, check_execution
from densenets.ops.fused.eligibility import is_plain
from densenets.ops.fused.fusion import Part, block_part, choose, part_of, stem_part, transition_part
from densenets.ops.interception import interception_reason, tracing_reason
from densenets.ops.layers import TRANSITION, BlockClasses
from densenets.ops.memory_format import MapFormat
from densenets.ops.reference import reference_dense_block

_UNFUSED: tuple[Execution, ...] = ("reference", "recompute")  # these run whatever the modules are


class PartExecution(NamedTuple):
    """The execution of a stem, dense block or transition.

    Attributes:
        name: "stem", or the name of a dense block or a transition.
        choice: what runs, and why.
    """

    name: str
    choice: Choice

    def __str__(self) -> str:
        """Name, execution and reason, for a log."""
        return f"{self.name}: {self.choice}"


def dense_block(x: Tensor, block: nn.Module, classes: BlockClasses, execution: Execution) -> Tensor:
    """Run a dense block (paper, eq. 2): N x C0 x *sides -> N x (C0 + L k) x *sides.

    The channels of the output are those of the block's input, then those of each layer in order.

    Args:
        x: maps.
        block: a container of layers, in order.
        classes: of the blocks, layers and transitions that may be fused.
        execution: the requested one.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    execution = _reference_if_traced(execution, x)
    if execution not in _UNFUSED:
        part = block_part(x, [block], classes, execution, interception_reason())
        if part.run is not None:
            return _run(part, x)
    layers = [layer for layer in block._modules.values() if layer is not None]
    if execution == "recompute":
        return recomputed_dense_block(x, layers, classes)
    return reference_dense_block(x, layers)


def transition(x: Tensor, module: nn.Module, classes: BlockClasses, execution: Execution) -> Tensor:
    """Run a transition (paper, section 3): N x C x *sides -> N x M x *sides / 2.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    execution = _reference_if_traced(execution, x)
    if execution not in _UNFUSED:
        part = transition_part(x, module, classes, execution, interception_reason())
        if part.run is not None:
            return _run(part, x)
    norm, relu, conv, dropout, pool = (module.get_submodule(name) for name in TRANSITION)
    reduced = checkpoint_modules([norm, relu, conv], [x]) if execution == "recompute" else conv(relu(norm(x)))
    result: Tensor = pool(dropout(reduced))
    return result


class FeatureRun:
    """A forward pass through modules in order, in which consecutive modules may run as one fused operator.

    Fused are the modules behind the convolution of an ImageNet stem (with it in "fused-lean"), and a dense
    block with the transition behind it. Whatever is not fused gets its maps in the memory format of x.

    Args:
        x: input of the first module, N x C x *sides.
        classes: of the blocks, layers and transitions that may be fused.
        execution: the requested one.
    """

    def __init__(self, x: Tensor, classes: BlockClasses, execution: Execution) -> None:
        execution = _reference_if_traced(execution, x)
        self._classes, self._execution = classes, execution
        may_fuse = execution not in _UNFUSED and interception_reason() is None and _may_be_fused(execution, x)
        self._format = MapFormat.of(x) if may_fuse else None  # None: every module runs itself
        # Whether the maps are in the operators' memory format; whether no module has run yet.
        self._is_inside, self._is_first = False, True

    def next(self, x: Tensor, modules: Sequence[nn.Module]) -> tuple[Tensor, Callable[[Tensor], Any], int]:
        """The maps that the first of these modules reads, what to call on them, and how many modules it runs.

        What to call is the module, or a function that returns the results of several, the last one's last.
        """
        module = modules[0]
        if self._format is None:
            return x, module, 1
        part = part_of(x, modules, self._classes, self._execution)
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
        """The last module's maps in the memory format of the first module's input."""
        return x if self._format is None else self._format.leave(x)


def explain_execution(requested: Execution, device: torch.device, dtype: torch.dtype) -> Choice:
    """The execution that runs for DenseNet's own modules, and why.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    return choose(requested, device, dtype, None)


def explain_modules(
    x: Tensor, modules: Sequence[nn.Module], classes: BlockClasses, execution: Execution
) -> Choice:
    """The execution that runs for a dense block, transition, or stem's BN-ReLU-pool that reads x, and why.

    Unlike the network itself this does not refuse a fused execution that cannot run: it says why.

    Raises:
        InputError: no execution has this name.
    """
    check_execution(execution)
    traced = tracing_reason(x)
    if traced is not None:
        return Choice("reference", None, traced)
    if execution in _UNFUSED:
        return Choice(execution, None, "as asked for")
    reason, first = interception_reason(), modules[0]
    try:
        if len(modules) > 1:
            part = None if reason else stem_part(x, modules)
            return part.choice if part else choose("auto", x.device, compute_type(x), reason)
        if type(first) is classes.transition:
            return transition_part(x, first, classes, execution, reason).choice
        return block_part(x, modules, classes, execution, reason).choice
    except InputError as error:
        return Choice("reference", None, str(error))


def _reference_if_traced(execution: Execution, x: Tensor) -> Execution:
    """The requested execution; "reference" where a graph is traced, which then holds PyTorch's operations."""
    return execution if execution == "reference" or tracing_reason(x) is None else "reference"


def _may_be_fused(execution: Execution, x: Tensor) -> bool:
    return x.dim() > 2 and choose(execution, x.device, compute_type(x), None).execution not in _UNFUSED


def _run(part: Part, x: Tensor) -> Tensor:
    """Run a fused part by itself; its result has the memory format of x."""
    assert part.run is not None
    layout = MapFormat.of(x)
    return layout.leave(part.run(layout.enter(x))[-1])
