"""`densenets doctor`: what is installed, what runs here and why not the rest, a self-test of the kernels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from densenets.cli.command import Command
from densenets.doctor.diagnosis import Diagnosis, ExecutionFacts, SelfTest, diagnose
from densenets.doctor.installation import ExtraFacts, KernelFacts
from densenets.errors import SelfTestError
from densenets.figures.numbers import bytes_text
from densenets.files import json_text
from densenets.terminal import console, plain

_WIDEST = 80  # columns: the report is to be pasted into other texts
_LABEL = 18  # columns of what stands at the left

Row = tuple[str, str]


@dataclass(frozen=True)
class DoctorOptions:
    """Form in which the report is printed."""

    json: bool = False
    """Print JSON."""


def doctor(options: DoctorOptions) -> None:
    """Print all that is found out, as a report or JSON.

    Raises:
        SelfTestError: the self-test found something wrong.
    """
    diagnosis = diagnose()
    print(json_text(diagnosis.to_dict(), indent=2)) if options.json else print_diagnosis(diagnosis)
    if wrong := diagnosis.self_test.wrong:
        raise SelfTestError("; ".join(wrong))


COMMAND = Command(title="doctor", options=DoctorOptions, call=doctor)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print all that was found out, as a report."""
    out = console()
    out.width = min(out.width, _WIDEST)
    _section(out, "Versions", _versions(diagnosis))
    _section(out, "Machine", _machine(diagnosis))
    _section(out, "Native kernels", _kernels(diagnosis.kernels))
    found = [(compiler.name, f"{compiler.version}, {compiler.path}") for compiler in diagnosis.compilers]
    _section(out, "C++ compilers", found or [("none", "was found")])
    if diagnosis.variables:
        _section(out, "Environment", diagnosis.variables.items())
    for device in dict.fromkeys(facts.device for facts in diagnosis.executions):
        rows = [_execution(facts) for facts in diagnosis.executions if facts.device == device]
        _section(out, f"Executions on {device}, in float32", rows)
    _section(out, "Extras", map(_extra, diagnosis.extras))
    _print_self_test(out, diagnosis.self_test)
    if diagnosis.advice:
        out.print("\nWhat would help", style="bold")
        for advice in diagnosis.advice:
            out.print(f"- {advice}", markup=False)


def _versions(diagnosis: Diagnosis) -> list[Row]:
    return [
        ("densenets", f"{diagnosis.densenets}, in {diagnosis.location}"),
        ("Python", f"{diagnosis.python}, {diagnosis.interpreter}"),
        *((package.name, package.version or "not installed") for package in diagnosis.packages),
    ]


def _machine(diagnosis: Diagnosis) -> list[Row]:
    processor, memory = diagnosis.processor, diagnosis.memory
    cores = f"{processor.usable_cores} of {processor.cores} cores"
    threads = "" if diagnosis.threads is None else f", {diagnosis.threads} threads of PyTorch"
    limit = "" if memory.limit is None else f", limited to {bytes_text(memory.limit)}"
    gpus = [
        (device.device, f"{device.name}, {bytes_text(device.memory)}")
        for device in diagnosis.devices
        if device.type != "cpu"
    ]
    if not diagnosis.devices:
        gpus = [("GPU", "not known, as the self-test ended early")]
    build = f"none found; this PyTorch is for {diagnosis.gpu_support or 'CPUs alone'}"
    return [
        ("system", diagnosis.system),
        ("processor", f"{processor.name}, {cores}{threads}"),
        ("memory", f"{bytes_text(memory.total)}, {bytes_text(memory.available)} of it free{limit}"),
        *(gpus or [("GPU", build)]),
        *(
            (
                f"{folder.purpose} folder",
                f"{folder.path}, {bytes_text(folder.free)} free"
                + ("" if folder.is_writable else ", read-only"),
            )
            for folder in diagnosis.folders
        ),
    ]


def _kernels(facts: KernelFacts) -> list[Row]:
    rows = [("in use", facts.chosen or f"none: {facts.reason}")]
    if facts.instruction_sets:
        rows.append(("run here", ", ".join(facts.instruction_sets)))
    if facts.without:
        rows.append(("not built", ", ".join(facts.without)))
    return rows


def _execution(facts: ExecutionFacts) -> Row:
    if facts.runs is None:
        return facts.requested, f"does not run: {facts.reason}"
    if facts.requested == "auto":
        return facts.requested, f"is {facts.runs}: {facts.reason}"
    return facts.requested, f"runs{facts.reason.removeprefix('as asked for')}"


def _extra(facts: ExtraFacts) -> Row:
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items() if version)
    if not facts.missing:
        return facts.name, versions
    return facts.name, f"{', '.join(facts.missing)} not installed; {facts.command}"


def _print_self_test(out: Console, self_test: SelfTest) -> None:
    out.print("\nSelf-test: relative errors against PyTorch in float64", style="bold")
    if self_test.checks:
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        for column in ("error", "PyTorch's", "result"):
            table.add_column(column, justify="right", no_wrap=True)
        for check in self_test.checks:
            error = "-" if check.error is None else f"{check.error:.1e}"
            result = Text("right", "green") if check.passed else Text("WRONG", "bold red")
            table.add_row(plain(check.subject_text), error, f"{check.pytorch_error:.1e}", result)
        out.print(table)
    for wrong in self_test.wrong:
        out.print(wrong, style="red", markup=False)


def _section(out: Console, title: str, rows: Iterable[Row]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(min_width=_LABEL, overflow="fold")
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(plain(label), plain(value))
    out.print(f"\n{title}", style="bold", markup=False)
    out.print(table)
