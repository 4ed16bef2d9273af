"""A dense block and the transition behind it as one operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, pair, step
from torch import Tensor, nn

from densenets.models.blocks import BLOCK_CLASSES
from densenets.models.densenet import DenseBlock, DenseLayer, DenseNet, Transition
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.backend import CPP
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.eager import EagerKernels
from densenets.ops.backends.unit import UnitKernels
from densenets.ops.fused.call import fused_dense_block
from densenets.ops.fused.eligibility import eligible_block

EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def first_pair(model: DenseNet) -> tuple[DenseBlock, Transition]:
    return cast(DenseBlock, model.features.denseblock1), cast(Transition, model.features.transition1)


class Pair(nn.Module):
    """A block and its transition, by the reference or as one operator; both results, or one of them."""

    def __init__(self, model: DenseNet, used: str, backend: str | None) -> None:
        super().__init__()
        self.block, self.transition = first_pair(model)
        self.used, self.backend = used, backend

    def forward(self, x: Tensor) -> Tensor:
        if self.backend is None:
            features = self.block(x)
            reduced = self.transition(features)
        else:
            eligible = eligible_block(x, self.block, BLOCK_CLASSES, self.transition)
            features, reduced = fused_dense_block(
                x, eligible.layers, eligible.transition, backend=self.backend, keep_bottlenecks=True
            )
        results = {"features": [features], "reduced": [reduced], "both": [features, reduced]}[self.used]
        return torch.cat([result.flatten() for result in results])


def gradients_that_are_there(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of one backward pass through the result, its weights all different."""
    x = x.clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    result = model(x)
    (result * torch.linspace(-1, 1, result.numel(), dtype=result.dtype)).sum().backward()
    assert x.grad is not None
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"result": result.detach(), "x": x.grad, **grads, **dict(model.named_buffers())}


@TRAINING
@pytest.mark.parametrize("used", ["features", "reduced", "both"])
@pytest.mark.parametrize("case", ["bottleneck", "plain", "volume"])
@pytest.mark.usefixtures("fresh_memory_is_nan")
def test_whoever_uses_which_result(case: str, used: str, training: bool, backend: str):
    reference, fused = pair(case_config(case), "fused")
    config = reference.config
    x = case_images(config)
    x = x.mean(dim=1, keepdim=True).repeat_interleave(config.stem_channels, dim=1)
    x = x * torch.linspace(0.5, 2, config.stem_channels, dtype=x.dtype).view(
        1, -1, *[1] * config.spatial_dims
    )
    expected = gradients_that_are_there(Pair(reference, used, None).train(training), x)
    actual = gradients_that_are_there(Pair(fused, used, backend).train(training), x)
    assert any(name.startswith("transition") and "num" not in name for name in expected)
    assert_equal(actual, expected)


def counting(kernels: type[UnitKernels], calls: Counter[str]) -> Callable[[], UnitKernels]:
    """UnitKernels that count who calls what."""

    def counted(name: str) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **settings: Any) -> Any:
            calls[name] += 1
            return getattr(kernels, name)(self, *args, **settings)

        return method

    names = ("statistics", "forward", "backward", "apply_correction")
    methods = {name: counted(name) for name in names}
    return cast(Callable[[], UnitKernels], type("Counting", (kernels,), methods))


def test_a_transition_takes_no_statistics_and_completes_nothing(
    backend: str, monkeypatch: pytest.MonkeyPatch
):
    calls: Counter[str] = Counter()
    kernels = CppKernels if backend == "cpp" else EagerKernels
    record = replace(backend_module.named_backend(backend), load=counting(kernels, calls), runs_block=False)
    monkeypatch.setattr(backend_module, "BACKENDS", (record,))
    config = case_config(block_layers=(3, 2))
    reference, fused = pair(config, "fused")
    x = case_images(config)
    assert_equal(step(fused, x), step(reference, x))
    units = 2 * (3 + 2) + 1
    # Statistics and correction: once for the input of each block. PyTorch's kernels take those of what a
    # layer makes in the same way, the native ones on the way out.
    statistics = 2 if backend == "cpp" else 2 + units - 1
    assert calls == {"statistics": statistics, "forward": units, "backward": units, "apply_correction": 2}


@pytest.mark.skipif(not CPP.availability().available, reason=CPP.availability().reason)
@EXECUTION
@TRAINING
@pytest.mark.parametrize("case", ["bottleneck", "plain", "signal", "plain volume"])
def test_one_call_gives_the_bits_of_many(
    case: str, training: bool, execution: Any, monkeypatch: pytest.MonkeyPatch
):
    model = DenseNet(case_config(case), execution).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = case_images(model.config).float()
    in_one = step(model, x)
    model.load_state_dict(before)
    monkeypatch.setattr(backend_module, "BACKENDS", (replace(CPP, runs_block=False),))
    for name, value in step(model, x).items():
        assert torch.equal(value, in_one[name]), name


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_kernels_of_other_sides(execution: Any):
    reference, fused = pair(case_config(), execution)
    for model in (reference, fused):
        torch.manual_seed(1)
        first, second, _ = first_pair(model)[0].values()
        first.conv1 = nn.Conv2d(first.conv1.in_channels, first.conv1.out_channels, 3, padding=1, bias=False)
        second.conv2 = nn.Conv2d(second.conv2.in_channels, second.conv2.out_channels, 1, bias=False)
        model.double()
    x = case_images(fused.config)
    assert_equal(step(fused, x), step(reference, x))


@pytest.mark.usefixtures("backend")
@EXECUTION
@pytest.mark.parametrize("name", ["denseblock1", "transition1", "denseblock2", "transition2"])
def test_hooks_of_either_are_called(name: str, execution: Any):
    reference, fused = pair(case_config(), execution)
    seen: list[torch.Size] = []
    x = case_images(fused.config)
    for model in (reference, fused):
        model.features.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(out.shape))
    assert_equal(step(fused, x), step(reference, x))
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_hooks_of_all_modules_are_called():
    model = DenseNet(case_config(), "auto")
    seen: list[type[nn.Module]] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, _, __: seen.append(type(module)))
    try:
        model(case_images(model.config).float())
    finally:
        handle.remove()
    assert seen.count(DenseBlock) == 3
    assert seen.count(Transition) == 2
    assert seen.count(DenseLayer) == 8


@pytest.mark.usefixtures("backend")
@EXECUTION
@pytest.mark.parametrize("frozen", ["denseblock1", "transition1"])
def test_one_of_them_in_evaluation(frozen: str, execution: Any):
    reference, fused = pair(case_config(), execution)
    for model in (reference, fused):
        model.features.get_submodule(frozen).eval()
    x = case_images(fused.config)
    assert_equal(step(fused, x), step(reference, x))


def test_executions_of_their_own():
    reference, fused = pair(case_config(), "fused")
    first_pair(fused)[1].execution = "reference"
    x = case_images(fused.config)
    assert_equal(step(fused, x), step(reference, x))


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_dropout_is_that_of_two_operators(execution: Any):
    together = DenseNet(case_config(dropout=0.3), execution).double()
    apart = DenseNet(together.config, execution).double()
    apart.load_state_dict(together.state_dict())
    for name in ("transition1", "transition2"):
        apart.features.get_submodule(name).register_forward_hook(lambda *_: None)
    x = case_images(together.config)
    steps = []
    for model in (together, apart):
        torch.manual_seed(5)
        steps.append(step(model, x))
    assert_equal(*steps)
