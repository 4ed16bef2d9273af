"""Commands in a Python that has less than this one: no packages of extras, or nothing that only Unix has.

They run one after the other in a process of their own, which is this file as a program. What they would
measure in processes of their own is given.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Lack = Literal["extras", "unix"]

# PyTorch looks in the list of installed packages whether it is there, and then imports it.
_CANNOT_BE_HIDDEN = {"optree"}
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a command.

    Attributes:
        code: its exit code.
        stdout: what it printed.
        stderr: what it said beside.
        written: the files that are new, below the current folder.
    """

    code: int
    stdout: str
    stderr: str
    written: tuple[str, ...]


def run_commands(lack: Lack, commands: Sequence[Sequence[str]], folder: Path) -> list[Done]:
    """Run commands of `densenets`, or `python CODE`, in a Python that lacks something.

    Args:
        lack: "extras": every package that the base install does not bring; "unix": what Windows has not.
        commands: words of each, without the program's name; "python" stands before code.
        folder: the current folder.
    """
    task = {"lack": lack, "modules": _beside_the_base() if lack == "extras" else [], "commands": commands}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(task),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Done(**{**fields, "written": tuple(fields["written"])}) for fields in json.loads(done.stdout)]


def write_pictures(root: Path) -> None:
    """Two classes of plain pictures, 16 x 16: train/ with 4 a class, val/ with 2."""
    from PIL import Image

    for split, count in (("train", 4), ("val", 2)):
        for grey, name in enumerate(("one", "two")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (16, 16), (200 * grey, 40 * number, 90)).save(folder / f"{number}.png")


def _beside_the_base() -> list[str]:
    """Modules of the packages that are installed here, but which the base does not bring."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {_canonical(project["name"]), *_with_what_they_bring(project["dependencies"]), *_CANNOT_BE_HIDDEN}
    found = importlib.metadata.packages_distributions()
    return [module for module, brought_by in found.items() if not base & set(map(_canonical, brought_by))]


def _with_what_they_bring(requirements: Sequence[str]) -> set[str]:
    """The names of required packages, and of all that these require."""
    from packaging.requirements import Requirement

    names: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        name = _canonical(requirement.name)
        if name in names or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        todo += [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    return names


def _canonical(package: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(package)


def main() -> None:
    """Do what standard input says, and print what came of it."""
    task = json.load(sys.stdin)
    if task["lack"] == "unix":
        importlib.import_module("no_unix").pretend_windows()
    # A module that is None cannot be imported, nor is it found.
    sys.modules.update(dict.fromkeys(task["modules"]))
    assert not [name for name in sys.modules if name.startswith("densenets")]
    _give_measurements()
    json.dump([asdict(_run(words)) for words in task["commands"]], sys.stdout)


def _give_measurements() -> None:
    from measured_times import given_answer

    from densenets.profiling import measured_step, runner

    for module in (measured_step, runner):
        module.run_job = given_answer  # type: ignore[attr-defined]


def _run(words: Sequence[str]) -> Done:
    stdout, stderr, before = io.StringIO(), io.StringIO(), _files()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = _python(words[1]) if words[0] == "python" else _densenets(words)
    written = tuple(sorted(_files() - before))
    return Done(code=code, stdout=stdout.getvalue(), stderr=stderr.getvalue(), written=written)


def _densenets(words: Sequence[str]) -> int:
    from densenets.cli import main as cli

    return cli.run(words)


def _python(code: str) -> int:
    names: dict[str, Any] = {}
    exec(code, names)
    return 0


def _files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
