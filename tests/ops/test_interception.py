"""Who would see that a module is not called: hooks, modes, replaced code, tensors of other kinds."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import module as global_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from densenets.errors import InputError
from densenets.models.blocks import DenseBlock, DenseLayer, Transition
from densenets.models.densenet import DenseNet
from densenets.ops.backends.backend import CPP

EXACT = 1e-10  # float64 in another order, as in test_fused.py
Seen = list[str]
Watcher = Callable[[Seen], contextlib.AbstractContextManager[object]]
pytestmark = pytest.mark.skipif(
    not CPP.availability().available, reason="'auto' is the reference where there are no native kernels"
)


class _Functions(TorchFunctionMode):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in ("batch_norm", "relu", "cat"):
            self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function).split(".")[1])
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def _global_hook(register: Callable[..., Any], seen: Seen) -> Iterator[None]:
    handle = register(lambda module, *_: seen.append(type(module).__name__))
    try:
        yield
    finally:
        handle.remove()


def _replaced(owner: Any, name: str) -> Watcher:
    """The same code in a wrapper that keeps its name, such as profilers and quantisers put in its place."""

    @contextlib.contextmanager
    def watcher(seen: Seen) -> Iterator[None]:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return original(*args, **kwargs)

        own = name in vars(owner)
        setattr(owner, name, wrapper)
        try:
            yield
        finally:
            setattr(owner, name, original) if own else delattr(owner, name)

    return watcher


WATCHERS: dict[str, Watcher] = {
    "global forward hook": functools.partial(_global_hook, global_hooks.register_module_forward_hook),
    "global forward pre-hook": functools.partial(_global_hook, global_hooks.register_module_forward_pre_hook),
    "global backward hook": functools.partial(_global_hook, global_hooks.register_module_full_backward_hook),
    "function mode": _Functions,
    "dispatch mode": _Operations,
    "ReLU.forward": _replaced(nn.ReLU, "forward"),
    "BatchNorm2d.forward": _replaced(nn.BatchNorm2d, "forward"),
    "Conv2d._conv_forward": _replaced(nn.Conv2d, "_conv_forward"),
    "Dropout.forward": _replaced(nn.Dropout, "forward"),
    "Module.__call__": _replaced(nn.Module, "__call__"),
    "DenseLayer.forward": _replaced(DenseLayer, "forward"),
    "Transition.forward": _replaced(Transition, "forward"),
    "DenseBlock.forward": _replaced(DenseBlock, "forward"),
    "functional.relu": _replaced(functional, "relu"),
    "functional.batch_norm": _replaced(functional, "batch_norm"),
    "functional.conv2d": _replaced(functional, "conv2d"),
}


@pytest.mark.parametrize("execution", ["auto", "recompute"])
@pytest.mark.parametrize("watcher", WATCHERS.values(), ids=WATCHERS.keys())
def test_who_watches_all_modules_sees_them(watcher: Watcher, execution: Any):
    reference, other = pair(case_config("large stem", block_layers=(2, 1)), execution)
    x = case_images(other.config)
    sights: list[Seen] = []
    steps = []
    for model in (reference, other):
        seen: ClassVar[Seen] = []
        with watcher(seen):
            steps.append(step(model, x))
        sights.append(seen)
    assert_equal(steps[1], steps[0], EXACT)
    assert sights[0]
    if execution == "auto":
        assert sights[1] == sights[0]
    else:  # what runs twice is seen twice
        assert set(sights[1]) >= {name for name in sights[0] if not name.endswith("backward")}


@pytest.mark.parametrize("watcher", WATCHERS.values(), ids=WATCHERS.keys())
def test_fused_refuses_to_run_unseen(watcher: Watcher):
    _, fused = pair(case_config("large stem", block_layers=(2, 1)), "fused")
    x = case_images(fused.config)
    with watcher([]), pytest.raises(InputError, match=r"cannot run: .*would not"):
        fused(x)
    assert fused(x).isfinite().all()


def test_a_function_that_was_replaced_before_us_is_no_original():
    from densenets.ops import interception

    original = nn.SiLU.forward
    nn.SiLU.forward = functools.wraps(original)(lambda self, x: original(self, x))
    try:
        (code,) = [c for c in interception._code_of_classes([nn.SiLU]) if c.name == "forward"]
        assert code.original is None
    finally:
        nn.SiLU.forward = original
    assert interception._is_from(nn.SiLU.forward, code.files)


def fused_operators(model: DenseNet, x: Tensor) -> set[str]:
    """The fused operators that a forward pass runs, as PyTorch's FLOP counter sees them."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return {str(operator).split(".")[-1] for operator in counter.get_flop_counts()["Global"]}


def test_devices_and_counters_do_not_stand_in_the_way():
    _, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)
    with torch.device("cpu"):
        assert "dense_block" in fused_operators(auto, x)
    with ModuleTracker():  # which no counter owns
        assert "dense_block" not in fused_operators(auto, x)


@pytest.mark.parametrize("case", ["bottleneck", "plain", "large stem", "volume"])
@pytest.mark.parametrize("execution", ["fused", "fused-lean"])
@pytest.mark.parametrize("of_images", [False, True])
def test_flops_are_those_of_the_reference(case: str, execution: Any, of_images: bool):
    totals = []
    for model in pair(case_config(case), execution):
        with FlopCounterMode(display=False) as counter:
            model(case_images(model.config).requires_grad_(of_images)).sum().backward()
        totals.append(counter.get_total_flops())
    assert totals[0] == totals[1] > 0


# Tensors of other kinds


class Noted(Tensor):
    """A tensor that sees every function which it is given to."""

    seen: ClassVar[Seen] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(getattr(function, "__name__", ""))
        return super().__torch_function__(function, types, args, kwargs or {})


def test_images_of_another_kind_run_the_modules():
    reference, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)
    expected = step(reference, x)
    assert_equal(step(auto, x.as_subclass(Noted)), expected, EXACT)
    assert "batch_norm" in Noted.seen
    assert {type(buffer) for buffer in auto.buffers()} == {Tensor}
    auto.execution = "fused"
    with pytest.raises(InputError, match="its input is a Noted, whose own functions would not be called"):
        auto(x.as_subclass(Noted))


@pytest.mark.parametrize("name", ["norm1.weight", "norm2.bias", "conv1.weight", "norm1.running_mean"])
def test_weights_of_another_kind_run_the_modules(name: str):
    _, auto = pair(case_config(), "auto")
    module, _, attribute = name.partition(".")
    owner = auto.features.get_submodule(f"denseblock1.denselayer2.{module}")
    tensors = owner._parameters if attribute in owner._parameters else owner._buffers
    tensors[attribute] = tensors[attribute].detach().as_subclass(Noted)
    (row,) = [part for part in auto.explain_execution(case_images(auto.config)) if part.name == "denseblock1"]
    assert row.choice.execution == "reference"
    assert "Noted in the place of a plain tensor" in row.choice.reason
