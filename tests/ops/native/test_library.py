"""Finding the library, choosing its instruction set, and the struct that both languages must agree on."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from units import instruction_sets

from densenets.errors import InputError
from densenets.ops.native import interface, library
from densenets.ops.native.library import INSTRUCTION_SET_VARIABLE, Library, load_library

HEADER = Path(__file__).parents[3] / "src/densenets/ops/native/interface.h"
C_TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "double": ctypes.c_double}
built = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the library is looked for, empty; what is loaded already is forgotten for the test alone."""
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    library._find_library.cache_clear()
    yield tmp_path
    library._find_library.cache_clear()


def test_a_library_that_was_not_built(folder: Path):
    with pytest.raises(InputError, match=r"were not built when densenets was installed \(no C\+\+ compiler"):
        load_library()


def test_a_library_that_cannot_be_loaded(folder: Path):
    path = folder / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    path.write_bytes(b"no library")
    with pytest.raises(InputError, match=r"the native kernels cannot be loaded: .*_kernels"):
        load_library()


@built
def test_the_library_is_loaded_once():
    assert load_library() is load_library()


@built
def test_instruction_sets_begin_with_the_portable_one():
    names = load_library().instruction_sets
    assert names[0] == "portable"
    assert len(set(names)) == len(names)


def test_the_best_instruction_set_is_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(INSTRUCTION_SET_VARIABLE, raising=False)
    assert Library(ctypes.CDLL(None), ("portable", "avx2", "avx512")).chosen() == 2


@pytest.mark.parametrize(("name", "index"), [("portable", 0), ("avx2", 1), ("avx512", 2), ("", 2)])
def test_the_environment_asks_for_an_instruction_set(name: str, index: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
    assert Library(ctypes.CDLL(None), ("portable", "avx2", "avx512")).chosen() == index


@pytest.mark.parametrize(
    ("name", "hint"), [("neon", "known: portable, avx2"), ("avx512", "did you mean avx2"), ("AVX2", "known")]
)
def test_the_environment_asks_for_what_there_is_not(name: str, hint: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
    with pytest.raises(InputError, match=rf"unknown {INSTRUCTION_SET_VARIABLE} '{name}'; {hint}"):
        Library(ctypes.CDLL(None), ("portable", "avx2")).chosen()


def test_loading_needs_no_pytorch():
    """`densenets summary` asks the library too, and imports nothing heavy."""
    code = """
import sys
from densenets.errors import InputError
from densenets.ops.native.library import load_library
try:
    load_library()
except InputError:
    pass
assert "torch" not in sys.modules, "PyTorch was imported"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def struct_of_header() -> list[tuple[str, type]]:
    """Names and types of the fields of `struct Unit`, in the order of the header."""
    body = re.search(r"struct Unit \{(.*?)\n\};", HEADER.read_text(), re.DOTALL)
    assert body is not None
    code = re.sub(r"//[^\n]*", "", body[1])
    fields = []
    for statement in filter(None, map(str.strip, code.split(";"))):
        match = re.fullmatch(r"(?:const )?(\w+)(\*?)\s+(\w+)(?:\[(\d+)\])?", statement)
        assert match is not None, statement
        kind, pointer, name, length = match.groups()
        c_type = ctypes.c_void_p if pointer else C_TYPES[kind]
        fields.append((name, c_type * int(length) if length else c_type))
    return fields


def test_the_struct_is_that_of_the_header():
    expected = struct_of_header()
    found = [(name, kind) for name, kind, *_ in interface.Unit._fields_]
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert found == expected


def test_the_struct_is_as_large_as_that_of_the_header():
    class OfHeader(ctypes.Structure):
        _fields_ = struct_of_header()

    assert ctypes.sizeof(interface.Unit) == ctypes.sizeof(OfHeader)
    for name, _ in struct_of_header():
        assert getattr(interface.Unit, name).offset == getattr(OfHeader, name).offset, name


@built
def test_every_function_of_the_header_is_declared():
    """A function without argument types would be called with Python integers cut to 32 bits."""
    names = set(re.findall(r"\b(densenets_\w+)\(([^)]+)\)", HEADER.read_text()))
    assert names
    for name, _ in names:
        assert getattr(load_library().functions, name).argtypes is not None, name
