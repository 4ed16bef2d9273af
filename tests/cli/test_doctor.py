"""`densenets doctor`: the report, its JSON, and its exit code."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from printed_rows import printed_rows

from densenets.cli import doctor as doctor_module
from densenets.cli import main as cli
from densenets.doctor import self_test
from densenets.doctor.checks import Check, Device, SelfTestAnswer
from densenets.doctor.diagnosis import Diagnosis, SelfTest, diagnose
from densenets.doctor.installation import KernelFacts
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP, EAGER
from densenets.ops.backends.eager import EagerKernels

CPU = Device(device="cpu", name="a processor", memory=None)
RIGHT = Check(
    subject="native kernels, avx512_bf16",
    part="dense block",
    precision="bfloat16",
    tensor="result",
    error=1e-3,
    pytorch_error=2e-3,
    allowed=1e-2,
)
WRONG = replace(RIGHT, error=0.5)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of the self-test's process without its seconds."""
    quick = SelfTestAnswer(devices=(CPU,), gpu_support="", threads=2, checks=(RIGHT,))
    monkeypatch.setattr("densenets.doctor.diagnosis.run_job", lambda *_: quick)


@pytest.fixture
def found(answer: None) -> Diagnosis:
    return diagnose()


def report(capsys: pytest.CaptureFixture[str], diagnosis: Diagnosis) -> str:
    doctor_module.print_diagnosis(diagnosis)
    return capsys.readouterr().out


@pytest.mark.usefixtures("answer")
def test_the_report_names_what_is_there(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["doctor"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = printed_rows(captured.out)
    assert {"densenets", "Python", "torch", "processor", "memory", "fused-lean", "tensorboard"} <= set(rows)
    assert rows["GPU"] == ["none", "found;", "this", "PyTorch", "is", "for", "CPUs", "alone"]
    assert "native kernels, avx512_bf16, bfloat16, dense block  1.0e-03    2.0e-03   right" in captured.out


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("80", 80), ("200", 80)])
def test_the_report_is_narrow(
    columns: str, widest: int, found: Diagnosis, capsys: pytest.CaptureFixture[str], monkeypatch: Any
):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    lines = report(capsys, replace(found, advice=("do this " * 30,))).splitlines()
    assert max(map(len, lines)) <= widest
    assert not any("\x1b" in line for line in lines)


@pytest.mark.usefixtures("answer")
def test_json_has_the_same_facts(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {package["name"] for package in facts["packages"]} >= {"torch", "rich"}
    assert facts["devices"] == [{"device": "cpu", "name": "a processor", "memory": None}]
    assert [check["passed"] for check in facts["self_test"]["checks"]] == [True]


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"]], ids=" ".join)
def test_a_failed_self_test_is_named_after_the_report(
    arguments: list[str], found: Diagnosis, capsys: pytest.CaptureFixture[str], monkeypatch: Any
):
    wrong = replace(found, self_test=SelfTest(checks=(RIGHT, WRONG), failure=None))
    monkeypatch.setattr(doctor_module, "diagnose", lambda: wrong)
    assert cli.run(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "densenets: the self-test failed: native kernels, avx512_bf16, bfloat16, dense block: "
        "result is off by 0.5, PyTorch's own by 0.002\n"
    )
    assert "WRONG" in captured.out or '"passed": false' in captured.out


def test_wrong_kernels_end_with_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    right = EagerKernels.forward

    def wrong(self: EagerKernels, unit: Any, out: Any, *, statistics: bool) -> Any:
        right(self, unit, out, statistics=False)
        out.mul_(1.1)
        return self.statistics(out) if statistics else None

    monkeypatch.setattr(EagerKernels, "forward", wrong)
    monkeypatch.setattr(self_test, "execution_checks", lambda device: ())
    monkeypatch.setattr("densenets.doctor.diagnosis.run_job", lambda *_: self_test.answer())
    assert cli.run(["doctor"]) == 1
    assert "the self-test failed: PyTorch's operations, float32, dense block: " in capsys.readouterr().err


def test_a_self_test_that_ended_early_is_told(
    found: Diagnosis, capsys: pytest.CaptureFixture[str], monkeypatch: Any
):
    ended = SelfTest(checks=(), failure="killed by SIGILL, checking native kernels, amx, float32, stem")
    monkeypatch.setattr(
        doctor_module, "diagnose", lambda: replace(found, devices=(), threads=None, self_test=ended)
    )
    assert cli.run(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "it ended early: killed by SIGILL, checking native kernels, amx" in captured.err
    assert "it ended early: killed by SIGILL" in captured.out
    assert printed_rows(captured.out)["GPU"][:2] == ["not", "known,"]


@pytest.mark.usefixtures("answer")
def test_missing_kernels_are_no_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    missing = KernelFacts(
        chosen=None, reason="the native kernels were not built", instruction_sets=(), without=()
    )
    monkeypatch.setattr("densenets.doctor.diagnosis.kernels", lambda: missing)
    refused = replace(CPP, availability=lambda: Availability(False, missing.reason))
    monkeypatch.setattr(backend_module, "BACKENDS", (refused, EAGER))
    assert cli.run(["doctor"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "in use none: the native kernels were not built" in printed
    assert "auto is reference: the native kernels were not built" in printed
    assert "fused runs, in PyTorch's operations: the native kernels were not built" in printed
    assert "What would help" in printed


@pytest.mark.usefixtures("answer")
def test_missing_extras_are_no_failure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for module in ("matplotlib", "bokeh", "jinja2", "tensorboard", "torchcam", "sklearn"):
        monkeypatch.setitem(sys.modules, module, None)
    assert cli.run(["doctor"]) == 0
    printed = capsys.readouterr().out
    for extra in ("plots", "report", "tensorboard", "saliency", "digits"):
        assert f'pip install "densenets[{extra}]"' in " ".join(printed.split())
