"""Sizes and names of the code: what a stranger reads fits on a screen, and a module's name says one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from documents import ROOT, SOURCE

FILE_LINES, FUNCTION_LINES = 400, 60

# Names of modules that mean the same thing wherever they stand.
SHARED_NAMES = {"__init__", "compute", "figure", "table", "reproduce"}


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".h", ".cpp", ".js", ".css", ".jinja"):
                yield path


def test_no_two_modules_have_one_name():
    places: dict[str, list[Path]] = defaultdict(list)
    for path in SOURCE.rglob("*.py"):
        places[path.stem].append(path)
    assert places.keys() >= SHARED_NAMES - {"table"}
    repeated = {name for name, paths in places.items() if len(paths) > 1}
    assert not repeated - SHARED_NAMES


def test_no_file_is_long():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for path in _files("src", "tests")
    }
    assert len(lengths) > 200
    assert not [name for name, length in lengths.items() if length > FILE_LINES]


def test_no_function_is_long():
    lengths: dict[str, int] = {}
    for path in _files("src"):
        for node in ast.walk(ast.parse(path.read_text())) if path.suffix == ".py" else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                name = f"{path.relative_to(SOURCE).as_posix()} {node.name}"
                lengths[name] = max(lengths.get(name, 0), node.end_lineno - node.lineno + 1)
    assert len(lengths) > 500
    assert not [name for name, length in lengths.items() if length > FUNCTION_LINES]
