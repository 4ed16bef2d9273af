"""The self-test: it passes here, and kernels that are wrong are found and named."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from units import instruction_sets

from densenets.doctor import self_test
from densenets.doctor.checks import Check, SelfTestAnswer
from densenets.files import json_text
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import INSTRUCTION_SET_VARIABLE
from densenets.ops.backends.eager import EagerKernels
from densenets.ops.backends.unit import Moments
from densenets.schema import read

built = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")
SUBJECTS = [*(f"native kernels, {name}" for name in instruction_sets()), "PyTorch's operations"]


def kernel_checks() -> list[Check]:
    return list(self_test.kernel_checks("cpu"))


def wrong_subjects(checks: list[Check]) -> set[str]:
    return {check.subject for check in checks if not check.passed}


def test_the_kernels_of_every_backend_are_checked_and_right():
    checks = kernel_checks()
    assert list(dict.fromkeys(check.subject for check in checks)) == SUBJECTS
    for subject in SUBJECTS:
        parts = ["dense block"] + (["stem"] if subject.startswith("native") else [])
        checked = [(check.precision, check.part) for check in checks if check.subject == subject]
        assert checked == [(precision, part) for precision in ("float32", "bfloat16") for part in parts]
    assert [str(check) for check in checks if not check.passed] == []
    # With room to spare: other processors round at other places.
    assert max(check.error / check.allowed for check in checks if check.error is not None) < 0.7


def test_every_execution_gives_torchvisions_logits():
    checks = list(self_test.execution_checks("cpu"))
    named = [check.subject.removeprefix("execution ") for check in checks]
    assert named == ["reference", "recompute", "fused", "fused-lean"]
    assert [str(check) for check in checks if not check.passed] == []
    # The same operations in the same order give the same bits.
    assert checks[0].error == checks[0].pytorch_error


def test_nothing_is_near_the_kink_of_relu():
    """Where float32 takes a value to the other side of zero, gradients differ by chance."""
    network, near = self_test.small_network().double(), []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda _, inputs, __: near.append(inputs[0].abs().min().item()))
    for part in (self_test.dense_block, self_test.stem):
        part(network, self_test.maps().float().double(), None)
    assert len(near) == 2 * 3 + 1 + 1
    assert min(near) > 5e-5


def spoiled(monkeypatch: pytest.MonkeyPatch, kernels: type, name: str, spoil: Callable[..., Any]) -> None:
    """Do something with a kernel's outcome and its arguments, and return what comes of it."""
    right = getattr(kernels, name)

    def wrong(self: Any, *args: Any, **settings: Any) -> Any:
        return spoil(right(self, *args, **settings), *args)

    monkeypatch.setattr(kernels, name, wrong)


def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch):
    def spoil(moments: Any, unit: Any, out: Tensor) -> Any:
        out[0, 0] += 1  # one value of hundreds
        return moments

    spoiled(monkeypatch, EagerKernels, "forward", spoil)
    assert wrong_subjects(kernel_checks()) == {"PyTorch's operations"}


def test_a_wrong_running_statistic_is_found(monkeypatch: pytest.MonkeyPatch):
    right = self_test.fused_stem

    def wrong(x: Tensor, norm: Any, *, backend: str) -> Any:
        results = right(x, norm, backend=backend)
        norm.running_var.mul_(1.1)
        return results

    monkeypatch.setattr(self_test, "fused_stem", wrong)
    found = [check for check in kernel_checks() if not check.passed]
    assert [(check.part, check.tensor) for check in found] == 2 * len(instruction_sets()) * [
        ("stem", "features.norm0.running_var")
    ]


@pytest.mark.parametrize("name", ["scale", "shift", "weight"])
def test_a_wrong_gradient_is_found(name: str, monkeypatch: pytest.MonkeyPatch):
    spoiled(
        monkeypatch,
        EagerKernels,
        "backward",
        lambda grads, *_: grads._replace(**{name: 2 * getattr(grads, name)}),
    )
    found = [check for check in kernel_checks() if not check.passed]
    assert {check.subject for check in found} == {"PyTorch's operations"}
    kind = {"scale": "norm", "shift": "norm", "weight": "conv"}[name]
    assert all(check.tensor.startswith("gradient of features.") and kind in check.tensor for check in found)


@built
def test_one_wrong_instruction_set_is_told_from_the_others(monkeypatch: pytest.MonkeyPatch):
    def spoil(nothing: None, result: Any, *_: Any) -> None:
        if os.environ[INSTRUCTION_SET_VARIABLE] == "portable":
            result.features[..., -1] *= 1.5

    spoiled(monkeypatch, CppKernels, "block_forward", spoil)
    assert wrong_subjects(kernel_checks()) == {"native kernels, portable"}


@built
def test_a_wrong_stem_is_found_in_the_whole_network(monkeypatch: pytest.MonkeyPatch):
    spoiled(monkeypatch, CppKernels, "stem_forward", lambda nothing, unit, out, winners: out.mul_(1.001))
    found = wrong_subjects(list(self_test.execution_checks("cpu")))
    assert found == {"execution fused", "execution fused-lean"}


def test_what_is_not_finite_is_wrong_and_can_be_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(self_test, "execution_checks", lambda device: iter(()))
    spoiled(
        monkeypatch,
        EagerKernels,
        "statistics",
        lambda moments, _: Moments(moments.mean * torch.nan, moments[1]),
    )
    answer = self_test.answer()
    wrong = [check for check in answer.checks if not check.passed]
    assert {check.subject for check in wrong} == {"PyTorch's operations"}
    assert {check.error for check in wrong} == {None}
    assert "is not finite, PyTorch's own by" in str(wrong[0])
    sent = json.loads(json_text(dataclasses.asdict(answer)))
    assert read(SelfTestAnswer, sent, "no answer") == answer


def test_kernels_that_raise_are_named_and_the_others_checked(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of densenets:\n no such unit")

    monkeypatch.setattr(EagerKernels, "forward", refuse)
    checks = kernel_checks()
    assert wrong_subjects(checks) == {"PyTorch's operations"}
    assert str(checks[-1]) == (
        "PyTorch's operations, bfloat16, dense block: a bug of densenets: no such unit"
    )


def test_the_environment_stays_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "portable")
    kernel_checks()
    assert os.environ[INSTRUCTION_SET_VARIABLE] == "portable"
    monkeypatch.delenv(INSTRUCTION_SET_VARIABLE)
    kernel_checks()
    assert INSTRUCTION_SET_VARIABLE not in os.environ


def test_it_says_what_it_checks_next(capsys: pytest.CaptureFixture[str]):
    """A processor that stops at an unknown instruction says nothing more."""
    checks = kernel_checks()
    assert capsys.readouterr().err.splitlines() == [f"checking {check.subject_text}" for check in checks]


def test_the_cpu_is_the_first_device():
    device, *others = self_test._devices()
    assert device.type == device.device == "cpu"
    assert len(others) == torch.cuda.device_count() + torch.backends.mps.is_available()
