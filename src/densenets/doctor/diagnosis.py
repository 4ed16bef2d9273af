"""All that `densenets doctor` finds out, and what would mend what is amiss. Needs no PyTorch."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from densenets import __version__
from densenets.doctor.checks import CHECKING, Check, Device, SelfTestAnswer
from densenets.doctor.hardware import (
    FolderFacts,
    MemoryFacts,
    ProcessorFacts,
    folders,
    memory,
    processor,
)
from densenets.doctor.installation import (
    CompilerFacts,
    ExtraFacts,
    KernelFacts,
    PackageFacts,
    base_packages,
    compilers,
    extras,
    kernels,
    variables,
)
from densenets.errors import InputError
from densenets.ops.execution import EXECUTIONS, Execution, choose_execution
from densenets.subprocess_jobs import JobFailure, run_job

_COMPILERS = "GCC 11 or Clang 12 and later"  # that build all instruction sets
_INSTALL_ANEW = "make install in a clone, else pip uninstall densenets and pip install it anew"


@dataclass(frozen=True, kw_only=True)
class ExecutionFacts:
    """An execution of dense blocks on a device, in float32.

    Attributes:
        device: such as "cpu".
        requested: the execution, as a network is asked for it.
        runs: the execution that runs, another one for "auto"; None where it cannot.
        backend: that runs it; None where it is none of the fused ones.
        reason: why that one, or why none.
    """

    device: str
    requested: Execution
    runs: Execution | None
    backend: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """The self-test of kernels and executions.

    Attributes:
        checks: their outcomes; none where it ended early.
        failure: why it ended early, in a line; None where it did not.
    """

    checks: tuple[Check, ...]
    failure: str | None

    @property
    def wrong(self) -> list[str]:
        """What came out wrong, each in a line."""
        ended = [] if self.failure is None else [f"it ended early: {self.failure}"]
        return ended + [str(check) for check in self.checks if not check.passed]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Facts of an installation and its machine.

    Attributes:
        densenets: version.
        location: folder of the package.
        python: version.
        interpreter: its program.
        system: the operating system.
        packages: those that densenets needs.
        extras: what else can be installed.
        processor: of the machine.
        memory: of the machine.
        folders: that are written to.
        devices: that PyTorch computes on; none where the self-test ended early.
        gpu_support: what GPUs this build of PyTorch is for; empty for none.
        threads: that PyTorch computes with on the CPU; None where the self-test ended early.
        kernels: the native ones.
        compilers: for C++.
        variables: of the environment.
        executions: on every device.
        self_test: of kernels and executions.
        advice: what would mend what is amiss.
    """

    densenets: str
    location: str
    python: str
    interpreter: str
    system: str
    packages: tuple[PackageFacts, ...]
    extras: tuple[ExtraFacts, ...]
    processor: ProcessorFacts
    memory: MemoryFacts
    folders: tuple[FolderFacts, ...]
    devices: tuple[Device, ...]
    gpu_support: str
    threads: int | None
    kernels: KernelFacts
    compilers: tuple[CompilerFacts, ...]
    variables: dict[str, str]
    executions: tuple[ExecutionFacts, ...]
    self_test: SelfTest
    advice: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them, with the outcome of each check."""
        checks = [{**asdict(check), "passed": check.passed} for check in self.self_test.checks]
        return {**asdict(self), "self_test": {"checks": checks, "failure": self.self_test.failure}}


def diagnose() -> Diagnosis:
    """Find out all facts; the self-test among them takes seconds."""
    answer = run_job("densenets.doctor.self_test", {}, SelfTestAnswer)
    if isinstance(answer, JobFailure):
        self_test = SelfTest(checks=(), failure=_reason(answer))
        answer = SelfTestAnswer(devices=(), gpu_support="", threads=None, checks=())
    else:
        self_test = SelfTest(checks=answer.checks, failure=None)
    packages, kernel_facts, compiler_facts = base_packages(), kernels(), compilers()
    folder_facts = folders()
    return Diagnosis(
        densenets=__version__,
        location=str(Path(__file__).parents[1]),
        python=platform.python_version(),
        interpreter=sys.executable,
        system=platform.platform(),
        packages=packages,
        extras=extras(),
        processor=processor(),
        memory=memory(),
        folders=folder_facts,
        devices=answer.devices,
        gpu_support=answer.gpu_support,
        threads=answer.threads,
        kernels=kernel_facts,
        compilers=compiler_facts,
        variables=variables(),
        executions=_executions(answer.devices),
        self_test=self_test,
        advice=(
            *package_advice(packages),
            *kernel_advice(kernel_facts, compiler_facts),
            *folder_advice(folder_facts),
        ),
    )


def package_advice(packages: tuple[PackageFacts, ...]) -> list[str]:
    """What to do about packages that are not there."""
    missing = [package.name for package in packages if package.version is None]
    return [f"pip install {' '.join(missing)}: densenets needs them"] if missing else []


def kernel_advice(facts: KernelFacts, found: tuple[CompilerFacts, ...]) -> list[str]:
    """What to do about native kernels that are not there, or not for all that the processor has."""
    if not facts.instruction_sets:
        compiler = (
            f"build the native kernels, for which {found[0].name} is there"
            if found
            else f"install a C++ compiler ({_COMPILERS}), then build the native kernels"
        )
        return [f"{compiler}: {_INSTALL_ANEW}"]
    if facts.chosen is None:
        return []  # the environment asks for an instruction set that there is not, as the reason says
    best, advice = facts.instruction_sets[-1], []
    if facts.chosen != best:
        advice.append(f"unset DENSENETS_INSTRUCTION_SET: {best} is faster than {facts.chosen}")
    if facts.without:
        advice.append(
            f"this processor has {', '.join(facts.without)}, for which the native kernels were not built: "
            f"with {_COMPILERS}, {_INSTALL_ANEW}"
        )
    return advice


def folder_advice(found: tuple[FolderFacts, ...]) -> list[str]:
    """What to do about folders that cannot be written to."""
    advice = [
        f"go where you may write, or name such a folder: {folder.path} is read-only for you"
        for folder in found
        if not folder.is_writable
    ]
    if not any(folder.purpose == "temporary" for folder in found):
        advice.append("no folder for temporary files can be written to: make space, or set TMPDIR")
    return advice


def _executions(devices: tuple[Device, ...]) -> tuple[ExecutionFacts, ...]:
    types = dict.fromkeys(["cpu", *(device.type for device in devices)])
    return tuple(_execution(execution, device) for device in types for execution in EXECUTIONS)


def _execution(execution: Execution, device: str) -> ExecutionFacts:
    try:
        choice = choose_execution(execution, device=device, dtype="float32")
    except InputError as error:
        return ExecutionFacts(device=device, requested=execution, runs=None, backend=None, reason=str(error))
    return ExecutionFacts(
        device=device,
        requested=execution,
        runs=choice.execution,
        backend=choice.backend,
        reason=choice.reason,
    )


def _reason(failure: JobFailure) -> str:
    """Why the self-test ended early, and where it was."""
    places = [line for line in failure.stderr.splitlines() if line.startswith(CHECKING)]
    return f"{failure.reason}, {places[-1]}" if places else failure.reason
