"""What fused networks may be fed: other types, single pixels, nothing, what does not fit or has no memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, errors, pair, step
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.errors import InputError
from densenets.models.densenet import DenseNet, Transition
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP, EAGER
from densenets.ops.dense_block import explain_execution
from densenets.ops.sync_batch_norm import synchronize

EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
EXACT = 1e-10  # float64 in another order, as in test_fused.py
pytestmark = pytest.mark.skipif(
    not CPP.availability().available, reason="'auto' is the reference where there are no native kernels"
)


def transition(model: DenseNet) -> Transition:
    return model.features.get_submodule("transition1")


# Types


def in_bfloat16(model: DenseNet, x: Tensor) -> dict[str, Tensor]:
    return step(model.bfloat16(), x.bfloat16())


def with_wide_norms(model: DenseNet, x: Tensor) -> dict[str, Tensor]:
    for module in model.bfloat16().modules():
        if isinstance(module, _BatchNorm):
            module.float()
    return step(model, x.bfloat16())


def under_autocast(model: DenseNet, x: Tensor) -> dict[str, Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    return step(model.float(), x.float(), run)


@pytest.mark.parametrize("how", [in_bfloat16, with_wide_norms, under_autocast])
@pytest.mark.parametrize("case", ["bottleneck", "plain"])
def test_bfloat16_is_as_exact_as_the_reference(
    case: str, how: Callable[[DenseNet, Tensor], dict[str, Tensor]], backend: str
):
    config = case_config(case)
    x = case_images(config, batch=8, times=2)  # a batch of few pixels would leave little gradient to compare
    exact = step(pair(config, "reference")[0], x)
    reference, fused = pair(config, "fused")
    expected, actual = how(reference, x), how(fused, x)
    assert {name: value.dtype for name, value in actual.items()} == {
        name: value.dtype for name, value in expected.items()
    }
    # Single tensors are luckier in the one or in the other; half as much again is allowed on the average.
    reference_error, error = (sum(errors(values, exact).values()) for values in (expected, actual))
    assert error <= 1.5 * reference_error


@pytest.mark.parametrize("name", ["denseblock1", "transition1"])
def test_types_that_do_not_fit_are_refused(name: str):
    reference, auto = pair(case_config(), "auto")
    x = torch.ones(2, 8 if name == "denseblock1" else 20, 4, 4, dtype=torch.float64)
    for model in (reference.float(), auto.float()):
        with pytest.raises(RuntimeError, match="dtype"):
            model.features.get_submodule(name)(x)
    auto.execution = "fused"
    with pytest.raises(InputError, match=r"in torch\.float64, a batch normalisation in torch\.float32"):
        auto.features.get_submodule(name)(x)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_weights_that_lie_anywhere_in_memory(training: bool):
    # As those of a file that is mapped into memory.
    reference, fused = pair(case_config("large stem"), "fused")
    expected = step(reference.train(training), case_images(fused.config))
    for parameter in fused.parameters():
        memory = bytearray(8 * parameter.numel() + 3)
        moved = torch.frombuffer(memory, dtype=torch.float64, offset=3).view(parameter.shape)
        moved.copy_(parameter.detach())
        parameter.data = moved
    assert_equal(step(fused.train(training), case_images(fused.config)), expected, EXACT)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_float16_gives_way(training: bool):
    reference, auto = pair(case_config(), "auto")
    x = case_images(auto.config).half()
    for model in (reference, auto):
        model.half().train(training)
    assert_equal(step(auto, x), step(reference, x), 0)


@EXECUTION
def test_float16_is_refused(execution: Any):
    _, fused = pair(case_config(), execution)
    message = "computes in float32, bfloat16, float64, not in float16; 'auto' takes what can"
    with pytest.raises(InputError, match=message):
        fused.half()(case_images(fused.config).half())
    with pytest.raises(ValueError, match=message), torch.autocast("cpu", torch.float16):
        fused.float()(case_images(fused.config).float())


def test_autocast_leaves_float64_alone():
    reference, auto = pair(case_config("large stem"), "auto")
    x = case_images(auto.config)
    with torch.autocast("cpu", torch.bfloat16):
        expected, result = reference.features(x), auto.features(x)
    assert result.dtype == expected.dtype == torch.float64
    torch.testing.assert_close(result, expected)


def test_a_single_pixel_has_no_variance():
    _, auto = pair(case_config(block_layers=(2,)), "auto")
    x = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    for execution in ("reference", "auto"):
        auto.execution = execution
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            auto(x)
    for execution in ("fused", "fused-lean"):
        auto.execution = execution
        with pytest.raises(InputError, match="a batch of a single pixel has no variance"):
            auto(x)
    assert auto.eval()(x).isfinite().all()


def test_a_single_pixel_of_all_ranks_is_normalised_as_the_reference_does():
    reference, auto = pair(case_config(block_layers=(2,)), "auto")
    for model in (reference, auto):
        synchronize(model, torch.device("cpu"))
    x = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    assert_equal(step(auto, x), step(reference, x), EXACT)


# Sizes


@pytest.mark.parametrize("shape", [(1, 20, 1, 1), (2, 20, 1, 5), (2, 20, 5, 1)])
def test_pooling_leaves_a_pixel_or_says_so(shape: tuple[int, ...]):
    reference, auto = pair(case_config(), "auto")
    x = torch.ones(shape, dtype=torch.float64)
    for model in (reference.eval(), auto.eval()):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            transition(model)(x)


@EXECUTION
@pytest.mark.parametrize("name", ["denseblock1", "transition1"])
@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 30, 4, 4), (2, 8, 4), (2, 8, 4, 4, 4)])
def test_maps_that_do_not_fit_are_refused(shape: tuple[int, ...], name: str, execution: Any):
    reference, auto = pair(case_config(), "auto")
    x, caught = torch.ones(shape, dtype=torch.float64), []
    for model in (reference, auto):
        with pytest.raises((RuntimeError, ValueError)) as error:
            model.features.get_submodule(name)(x)
        caught.append(str(error.value))
    assert caught[0] == caught[1]
    auto.execution = execution
    with pytest.raises(InputError, match=f"execution '{execution}' cannot run"):
        auto.features.get_submodule(name)(x)


def test_no_images_give_no_logits():
    _, auto = pair(case_config("large stem"), "auto")
    assert auto.eval()(torch.empty(0, 3, 32, 32, dtype=torch.float64)).shape == (0, 5)


@pytest.mark.parametrize("execution", ["auto", "fused", "fused-lean"])
def test_shapes_are_known_without_memory(execution: Any):
    with torch.device("meta"):
        model = DenseNet(case_config("large stem"), execution)
        result = model(torch.empty(2, 3, 64, 64))
    assert result.shape == (2, 5)
    assert result.is_meta
    result.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_missing_kernels_leave_the_reference(monkeypatch: pytest.MonkeyPatch):
    unavailable = replace(CPP, availability=lambda: Availability(False, "no compiler"))
    monkeypatch.setattr(backend_module, "BACKENDS", (unavailable, EAGER))
    choice = explain_execution("auto", torch.device("cpu"), torch.float32)
    assert str(choice) == "reference (no compiler)"
    reference, auto = pair(case_config(), "auto")
    x = case_images(auto.config)
    assert_equal(step(auto, x), step(reference, x), 0)
