"""Commands of the documents, run in the current folder; long ones as far as their first work."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from densenets.cli import main as cli

Command = Sequence[str]

# Where the work begins that takes long: a training step, a child process that measures, a measurement here.
_FIRST_WORK = (
    "densenets.training.train_step.TrainStep.run",
    "densenets.profiling.runner.run_job",
    "densenets.profiling.measured_step.run_job",
    "densenets.analysis.gradients.compute.layer_flows",
    "densenets.profiling.networks.step_network",
    "densenets.export.program.trace",
)

# A shell with these programs alone; it notes what they are called with.
_SHELL = """set -eu
PATH=
note() { printf '%s\\0' "$@" >> "$NOTES"; printf '\\n\\0' >> "$NOTES"; }
"""


class FirstWork(BaseException):
    """Raised in the place of long work; no `except Exception` on the way takes it for a failure."""


def read_commands(text: str) -> list[Command]:
    """What a shell would run in the current folder, with comments and patterns of files read by it.

    A program that `run` does not know fails.
    """
    programs = "".join(f'{name}() {{ note {name} "$@"; }}\n' for name in _PROGRAMS)
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.touch()
        done = subprocess.run(
            [shutil.which("sh") or "sh", "-c", _SHELL + programs + text],
            env={**os.environ, "NOTES": str(notes)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}in {text}"
        words = notes.read_text(encoding="utf-8").split("\0")
    commands: list[list[str]] = [[]]
    for word in words[:-1]:
        if word == "\n":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands[:-1]


def run(command: Command) -> None:
    """Run a command to its end; one that fails is a failure of the test."""
    program, *arguments = command
    _PROGRAMS[program](arguments)


def reaches_first_work(command: Command) -> bool:
    """Run a command in a copy of the current folder, but not what takes long: whether it came to that.

    It may also come to its end before.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(shutil.copytree(".", folder, symlinks=True, dirs_exist_ok=True))
        for name in _FIRST_WORK:
            patch.setattr(name, _stop)
        try:
            run(command)
        except FirstWork:
            return True
        return False


def is_command(text: str) -> bool:
    """Whether a piece of code is a command of this project."""
    return bool(re.match(r"(densenets|torchrun|make|pytest|pip) \S|python benchmarks/", text))


def _stop(*_: object, **__: object) -> Any:
    raise FirstWork


def _densenets(arguments: list[str]) -> None:
    if arguments[:1] == ["train"] and "--help" not in arguments:
        # The documents tell of runs before they tell of what they leave; the world of the tests has those.
        place = arguments[arguments.index("--out") + 1] if "--out" in arguments else f"runs/{arguments[1]}"
        shutil.rmtree(place, ignore_errors=True)
    code = cli.run(arguments)
    assert code == 0, f"densenets {' '.join(arguments)} ended with {code}"


def _python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "pytest"]:
        _stop()
    if arguments[:2] == ["-m", "densenets"]:
        _densenets(arguments[2:])
        return
    script, *rest = arguments
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *rest])
        code: object = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        assert code == 0, f"python {' '.join(arguments)} ended with {code}"


def _torchrun(arguments: list[str]) -> None:
    """One process of those that torchrun would start."""
    from torch.distributed.run import get_args_parser

    started = get_args_parser().parse_args(arguments)
    assert started.module, "torchrun starts densenets as a module, with -m"
    _python(["-m", started.training_script, *started.training_script_args])


def _make(arguments: list[str]) -> None:
    """What make would run of ours."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    printed = subprocess.run(["make", "-n", *arguments], capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    ours = re.findall(
        r"^(?:OMP_NUM_THREADS=1 )?\.venv/bin/(densenets .*|python -m pytest.*)$", printed.stdout, re.MULTILINE
    )
    for command in read_commands("\n".join(ours)):
        run(command)


def _pytest(arguments: list[str]) -> None:
    """Whether there are tests where, and of what name, they are looked for."""
    checkout = Path("tests").resolve().parent
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "--quiet",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _pip(arguments: list[str]) -> None:
    """Whether pip would find what it is to install: this checkout, its wheel, or this package by its name."""
    command, requirement = arguments
    found = re.fullmatch(
        r"(?P<what>\.|densenets|dist/densenets-[\w.-]+\.whl)(?:\[(?P<extras>[\w,-]+)\])?", requirement
    )
    assert command == "install"
    assert found, requirement
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    missing = [extra for extra in (found["extras"] or "").split(",") if extra and extra not in known]
    assert not missing, f"pip install {requirement}: there is no extra {missing}"


_PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "densenets": _densenets,
    "python": _python,
    "torchrun": _torchrun,
    "make": _make,
    "pytest": _pytest,
    "pip": _pip,
}
