"""Detection of tracing, modes, hooks and patched code that need every module to be called.

A fused operator computes the results of several modules and calls none of them. So it may only run where
nothing depends on these calls; these functions say what does.
"""

from __future__ import annotations

import inspect
import sys
from types import BuiltinFunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.modules import module as global_hooks
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.flop_counter import _FlopCounterMode

# The functions that a call of a module goes through, as attributes of its class or of the module itself.
_CALL_ATTRIBUTES = ("forward", "_call_impl", "_conv_forward", "_check_input_dim")
_CLASS_ATTRIBUTES = ("__call__", "__getattr__", "__getattribute__", *_CALL_ATTRIBUTES)

_CLASSES: list[type[nn.Module]] = [
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    nn.ReLU,
    nn.Dropout,
]
# What the forwards of these classes call.
_FUNCTIONS: dict[Any, tuple[str, ...]] = {
    functional: (
        *("batch_norm", "relu", "dropout"),
        *("conv1d", "conv2d", "conv3d"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("max_pool1d", "max_pool2d", "max_pool3d"),
    ),
    torch: ("cat", "relu", "batch_norm"),
}


class _Code(NamedTuple):
    """A function: where it is looked up, and its original code."""

    owner: Any
    name: str
    original: Any
    files: tuple[str, ...]


def tracing_reason(x: object) -> str | None:
    """Why the modules themselves must run: a graph is recorded that cannot hold this package's operators.

    Args:
        x: the modules' input; not a tensor under `torch.fx`.

    Returns:
        The end of a sentence; None where no graph is recorded.
    """
    if not isinstance(x, Tensor):
        return f"it is traced, with a {type(x).__name__} in the place of maps"
    if torch._C._get_tracing_state() is not None:
        return "it is traced by torch.jit.trace"
    # What is_exporting() returns; until PyTorch 2.11 torch.compile traces a call of it as True.
    if torch.compiler._is_exporting_flag:
        return "it is exported by torch.export"
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() == 0:
        return None
    # PyTorch's own modes of tracing: make_fx, fake tensors, functionalisation.
    traces = any(getattr(mode, "_mode_key", None) is not None for mode in _get_current_dispatch_mode_stack())
    return "it is traced into a graph" if traces else None


def interception_reason() -> str | None:
    """Why no module at all can be fused, an active mode, global hooks or patches; None if there are none."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return "torch.func and forward-mode differentiation have no rules for it"
    for index in range(torch._C._len_torch_function_stack()):
        mode = torch._C._get_function_stack_at(index)
        if type(mode) is not DeviceContext:
            return f"a {type(mode).__name__} is active, which would not see the modules' functions"
    if not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack():
        for mode in _get_current_dispatch_mode_stack():
            if type(mode) is not _FlopCounterMode:
                return f"a {type(mode).__name__} is active, which would not see the modules' operations"
    if _has_global_hooks():
        return "there are global hooks on modules, which would not be called"
    return _replaced_code()


def any_call_is_intercepted() -> bool:
    """Whether global hooks or patched code need the calls of all modules."""
    return _has_global_hooks() or _replaced_code() is not None


def is_intercepted(module: nn.Module) -> bool:
    """Whether a call of this module must not be left out: it has hooks, or a forward of its own."""
    state = module.__dict__
    return bool(
        state["_forward_hooks"]
        or state["_forward_pre_hooks"]
        or state["_backward_hooks"]
        or state["_backward_pre_hooks"]
        or "forward" in state
        or "_call_impl" in state
        or "_conv_forward" in state
        or "_check_input_dim" in state
        or state.get("_compiled_call_impl") is not None
    )


def intercepted_reason(module: nn.Module) -> str:
    """Why a module that `is_intercepted` cannot be fused, as the end of a sentence."""
    return f"a {type(module).__name__} has hooks or a forward of its own, which would not be called"


def detect_replaced_code(*classes: type[nn.Module]) -> None:
    """Have `interception_reason` check whether methods of these classes have been replaced."""
    _CLASSES.extend(classes)
    _CODE.extend(_code_of_classes(classes))


def _has_global_hooks() -> bool:
    """Whether there are global hooks besides those by which an active FLOP counter tracks modules."""
    groups = (
        global_hooks._global_forward_pre_hooks,
        global_hooks._global_forward_hooks,
        global_hooks._global_backward_pre_hooks,
        global_hooks._global_backward_hooks,
    )
    hooks = [hook for group in groups for hook in group.values()]
    if not hooks:
        return False
    trackers = [
        mode.counter.mod_tracker
        for mode in _get_current_dispatch_mode_stack()
        if type(mode) is _FlopCounterMode
    ]
    owners = [getattr(hook, "__self__", None) for hook in hooks]
    return any(all(owner is not tracker for tracker in trackers) for owner in owners)


def _replaced_code() -> str | None:
    for owner, name, original, files in _CODE:
        current = getattr(owner, name, None)
        if current is not original and not _is_from(current, files):
            return f"{owner.__name__}.{name} has been replaced, and would not be called"
    return None


# Asked once while torch.compile traces: its guards do not notice replaced code of PyTorch's modules either.
_replaced_code._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _is_from(function: Any, files: tuple[str, ...]) -> bool:
    """Whether a function's code is in these files; a wrapper keeps the name, but its code is elsewhere."""
    if isinstance(function, BuiltinFunctionType):
        return function.__module__ is None or function.__module__.startswith("torch")
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename in files


def _code_of_classes(classes: list[type[nn.Module]] | tuple[type[nn.Module], ...]) -> list[_Code]:
    return [
        _code(cls, name, tuple(_file(base) for base in cls.__mro__ if base is not object))
        for cls in classes
        for name in _CLASS_ATTRIBUTES
        if hasattr(cls, name)
    ]


def _code(owner: Any, name: str, files: tuple[str, ...]) -> _Code:
    function = getattr(owner, name)
    if inspect.isfunction(function) and not _is_from(function, files):
        function = None  # replaced before we could see it
    return _Code(owner, name, function, files)


def _file(cls: type) -> str:
    return getattr(sys.modules[cls.__module__], "__file__", None) or ""


_CODE = [
    *_code_of_classes(_CLASSES),
    *(
        # Some of them are chosen by a flag, in code of PyTorch's compiler for scripts.
        _code(owner, name, (functional.__file__, torch._jit_internal.__file__))
        for owner, names in _FUNCTIONS.items()
        for name in names
    ),
]
