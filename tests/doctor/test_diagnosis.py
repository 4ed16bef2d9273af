"""What follows from the facts: how executions run, whether the self-test passed, what would help."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from densenets.doctor import diagnosis as diagnosis_module
from densenets.doctor.checks import Check, Device, SelfTestAnswer
from densenets.doctor.diagnosis import diagnose, folder_advice, kernel_advice, package_advice
from densenets.doctor.hardware import FolderFacts
from densenets.doctor.installation import CompilerFacts, KernelFacts, PackageFacts
from densenets.files import json_text
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP, EAGER
from densenets.ops.execution import EXECUTIONS
from densenets.subprocess_jobs import JobFailure

RIGHT = Check(
    subject="execution fused",
    part="DenseNet-121",
    precision="float32",
    tensor="logits",
    error=1e-7,
    allowed=1e-6,
)
ANSWER = SelfTestAnswer(
    devices=(
        Device(device="cpu", name="a processor", memory=None),
        Device(device="cuda:0", name="a GPU", memory=2**33),
        Device(device="cuda:1", name="a GPU", memory=2**33),
    ),
    gpu_support="CUDA 13.0",
    threads=4,
    checks=(RIGHT,),
)
KERNELS = KernelFacts(chosen="avx2", reason="", instruction_sets=("portable", "avx2"), without=())
COMPILER = CompilerFacts(name="g++", path="/usr/bin/g++", version="g++ 14")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[SelfTestAnswer | JobFailure], None]:
    """Sets what the self-test's process answers."""

    def answer(answer: SelfTestAnswer | JobFailure) -> None:
        monkeypatch.setattr(diagnosis_module, "run_job", lambda module, job, kind: answer)

    return answer


def test_executions_of_every_kind_of_device(answers: Any, monkeypatch: pytest.MonkeyPatch):
    answers(ANSWER)
    ready = replace(CPP, availability=lambda: Availability(True, "avx2"))
    monkeypatch.setattr(backend_module, "BACKENDS", (ready, EAGER))
    found = {(facts.device, facts.requested): facts for facts in diagnose().executions}
    assert list(found) == [(device, name) for device in ("cpu", "cuda") for name in EXECUTIONS]
    assert (found["cpu", "auto"].runs, found["cpu", "auto"].backend) == ("fused", "cpp")
    assert found["cuda", "auto"].runs == "reference"
    assert found["cuda", "auto"].reason == "the native kernels are for the CPU, not cuda"
    assert (found["cuda", "fused"].runs, found["cuda", "fused"].backend) == ("fused", "eager")


def test_executions_that_nothing_runs(answers: Any, monkeypatch: pytest.MonkeyPatch):
    answers(ANSWER)
    refused = replace(CPP, availability=lambda: Availability(False, "they were not built"))
    monkeypatch.setattr(backend_module, "BACKENDS", (refused,))
    found = {facts.requested: facts for facts in diagnose().executions if facts.device == "cpu"}
    assert {name for name, facts in found.items() if facts.runs is None} == {"fused", "fused-lean"}
    assert "they were not built" in found["fused"].reason
    assert found["auto"].runs == "reference"


def test_all_is_well(answers: Any):
    answers(ANSWER)
    found = diagnose()
    assert found.self_test.wrong == []
    assert found.threads == 4
    sent = json.loads(json_text(found.to_dict()))
    assert sent["self_test"]["checks"][0]["passed"] is True
    assert sent["devices"][1] == {"device": "cuda:0", "name": "a GPU", "memory": 2**33}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"error": 1e-3}, "logits is off by 0.001, PyTorch's own by 2e-07"),
        ({"error": None}, "logits is not finite, PyTorch's own by 2e-07"),
        ({"failure": "no memory"}, "no memory"),
    ],
)
def test_what_came_out_wrong_is_named(changes: dict[str, Any], told: str, answers: Any):
    answers(replace(ANSWER, checks=(RIGHT, replace(RIGHT, pytorch_error=2e-7, **changes))))
    assert diagnose().self_test.wrong == [f"execution fused, float32, DenseNet-121: {told}"]


def test_a_self_test_that_ended_early_leaves_the_other_facts(answers: Any):
    stderr = "checking native kernels, avx2, float32, stem\nchecking native kernels, amx, float32, stem\n"
    answers(JobFailure(reason="killed by SIGILL", stderr=stderr))
    found = diagnose()
    assert found.self_test.wrong == [
        "it ended early: killed by SIGILL, checking native kernels, amx, float32, stem"
    ]
    assert found.devices == ()
    assert [facts.requested for facts in found.executions] == list(EXECUTIONS)
    answers(JobFailure(reason="ImportError: libcudart.so", stderr="Traceback\nImportError: libcudart.so"))
    assert diagnose().self_test.wrong == ["it ended early: ImportError: libcudart.so"]


@pytest.mark.slow
def test_the_self_tests_own_process():
    found = diagnose()
    assert found.self_test.failure is None
    assert found.self_test.wrong == []
    assert len(found.self_test.checks) >= 6
    assert found.devices[0].device == "cpu"


def test_what_helps_where_there_are_no_kernels():
    missing = KernelFacts(chosen=None, reason="not built", instruction_sets=(), without=())
    (advice,) = kernel_advice(missing, ())
    assert advice.startswith(
        "install a C++ compiler (GCC 11 or Clang 12 and later), then build the native kernels:"
    )
    (advice,) = kernel_advice(missing, (COMPILER,))
    assert advice.startswith("build the native kernels, for which g++ is there: make install in a clone")


def test_what_helps_where_kernels_could_be_faster():
    assert kernel_advice(KERNELS, (COMPILER,)) == []
    (advice,) = kernel_advice(replace(KERNELS, chosen="portable"), ())
    assert advice == "unset DENSENETS_INSTRUCTION_SET: avx2 is faster than portable"
    (advice,) = kernel_advice(replace(KERNELS, without=("avx512", "amx")), ())
    assert advice.startswith("this processor has avx512, amx, for which the native kernels were not built")
    assert kernel_advice(replace(KERNELS, chosen=None, reason="unknown"), ()) == []


def test_what_helps_where_packages_are_missing():
    there, gone = PackageFacts(name="torch", version="2.14"), PackageFacts(name="rich", version=None)
    assert package_advice((there,)) == []
    assert package_advice((there, gone)) == ["pip install rich: densenets needs them"]


def test_what_helps_where_nothing_can_be_written():
    temporary = FolderFacts(purpose="temporary", path="/tmp", free=1, is_writable=True)
    current = FolderFacts(purpose="current", path="/photos", free=1, is_writable=False)
    assert folder_advice((temporary,)) == []
    (advice,) = folder_advice((current, temporary))
    assert "/photos is read-only for you" in advice
    (advice,) = folder_advice(())
    assert "set TMPDIR" in advice
