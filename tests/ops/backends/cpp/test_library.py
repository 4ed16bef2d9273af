"""Finding the library, choosing its instruction set, and the struct that both languages must agree on."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy.linalg import _umath_linalg
from units import instruction_sets

from densenets.errors import InputError
from densenets.ops.backends.cpp import interface, library
from densenets.ops.backends.cpp.library import INSTRUCTION_SET_VARIABLE, Library, load_library
from densenets.ops.backends.cpp.sources import LIBRARY, fingerprint
from densenets.ops.execution import choose_execution

ROOT = Path(__file__).parents[4]
HEADER = ROOT / "src/densenets/ops/backends/cpp/csrc/interface.h"
STRUCTS = (interface.Unit, interface.BlockUnit, interface.Block)
C_TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "double": ctypes.c_double}
every_struct = pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
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
    path = folder / LIBRARY
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
    ("name", "hint"),
    [("neon", "known: portable, avx2"), ("avx512", "did you mean avx2"), ("AVX2", "did you mean avx2")],
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
from densenets.ops.backends.cpp.library import load_library
try:
    load_library()
except InputError:
    pass
assert "torch" not in sys.modules, "PyTorch was imported"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def struct_of_header(name: str) -> list[tuple[str, type]]:
    """Names and types of the fields of a struct, in the order of the header."""
    body = re.search(rf"struct {name} \{{(.*?)\n\}};", HEADER.read_text(), re.DOTALL)
    assert body is not None
    code = re.sub(r"//[^\n]*", "", body[1])
    fields = []
    for statement in filter(None, map(str.strip, code.split(";"))):
        match = re.fullmatch(r"(?:const )?(\w+)(\*?)\s+(\w+)(?:\[(\d+)\])?", statement)
        assert match is not None, statement
        kind, pointer, field, length = match.groups()
        c_type = ctypes.c_void_p if pointer else C_TYPES[kind]
        fields.append((field, c_type * int(length) if length else c_type))
    return fields


@every_struct
def test_a_struct_is_that_of_the_header(struct: type[ctypes.Structure]):
    found = [(name, ctypes.c_void_p if name == "parts" else kind) for name, kind, *_ in struct._fields_]
    assert found == struct_of_header(struct.__name__)


@every_struct
def test_a_struct_is_as_large_as_that_of_the_header(struct: type[ctypes.Structure]):
    class OfHeader(ctypes.Structure):
        _fields_ = struct_of_header(struct.__name__)

    assert ctypes.sizeof(struct) == ctypes.sizeof(OfHeader)
    for name, _ in struct_of_header(struct.__name__):
        assert getattr(struct, name).offset == getattr(OfHeader, name).offset, name


def test_packed_structs_have_their_fields():
    values = (1, 3, 3, 32, 1e-5, *range(40, 49))
    first, second = interface.block_units([values, values])
    for unit in (first, second):
        fields = [getattr(unit, name) for name, _ in interface.BlockUnit._fields_]
        assert (*fields[0], *fields[1:]) == values


@built
def test_the_library_knows_every_field():
    """What it does not name could not be compared."""
    assert interface.compiled_layout(load_library().functions) == interface.declared_layout()


@built
def test_every_function_of_the_header_is_declared():
    """A function without argument types would be called with Python integers cut to 32 bits."""
    names = set(re.findall(r"\b(densenets_\w+)\(", HEADER.read_text()))
    assert len(names) > 10
    for name in names:
        assert getattr(load_library().functions, name).argtypes is not None, name


@built
def test_every_function_that_computes_raises_where_it_fails():
    text = HEADER.read_text()
    names = re.findall(r"\bint32_t (densenets_\w+)\(", text[text.index("These return a Status") :])
    assert len(names) == 9
    for name in names:
        with pytest.raises(RuntimeError, match=rf"{name}: instruction_set is none"):
            call_with_zeros(getattr(load_library().functions, name))


def call_with_zeros(function: Any) -> None:
    """A call for the instruction set -1; structs are all zeros, other pointers null."""
    structs = {ctypes.POINTER(struct): struct for struct in STRUCTS}
    rest = [
        ctypes.byref(structs[kind]()) if kind in structs else zero(kind) for kind in function.argtypes[1:]
    ]
    function(-1, *rest)


def zero(kind: Any) -> Any:
    return 0 if kind in (ctypes.c_int32, ctypes.c_int64, ctypes.c_double) else None


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The library is looked for again in the test, and after it."""
    library._find_library.cache_clear()
    yield
    library._find_library.cache_clear()


def refusal() -> str:
    with pytest.raises(InputError, match="were built from other sources than this code") as caught:
        load_library()
    is_available, reason = library.availability()
    assert not is_available
    assert reason == str(caught.value)
    assert "\n" not in reason
    assert "build them again with 'make install'" in reason
    choice = choose_execution("auto", device="cpu", dtype="float32")
    assert choice.execution == "reference"
    return reason


@built
@pytest.mark.usefixtures("forgotten")
def test_a_library_of_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "INTERFACE_VERSION", interface.INTERFACE_VERSION + 1)
    assert "its interface is" in refusal()


@built
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("index", [0, 3, -1])
@pytest.mark.parametrize("change", [(1, 0), (0, 8)])
def test_a_library_of_other_structs_is_refused(
    index: int, change: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    layout = interface.declared_layout()
    name, offset, size = layout[index]
    layout[index] = (name, offset + change[0], size + change[1])
    monkeypatch.setattr(library, "declared_layout", lambda: layout)
    assert f"{name} lies elsewhere" in refusal()


@built
@pytest.mark.usefixtures("forgotten")
def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch):
    """As after `git pull`, where structs are what they were."""
    monkeypatch.setattr(library, "fingerprint", lambda folder: "0" * 64)
    assert "their contents differ" in refusal()


@built
@pytest.mark.usefixtures("forgotten")
def test_without_sources_structs_are_compared_alone(monkeypatch: pytest.MonkeyPatch):
    """As where the package was installed from a wheel."""
    monkeypatch.setattr(library, "fingerprint", lambda folder: None)
    assert load_library().instruction_sets


def test_a_library_that_does_not_say_what_it_was_built_from_is_refused(folder: Path):
    path = folder / LIBRARY
    path.symlink_to(_umath_linalg.__file__)  # any library: an older one had none of these functions either
    assert "it does not say which" in refusal()


def test_a_missing_library_is_looked_for_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Every block of a network asks."""
    before = library.availability()
    monkeypatch.setattr(library, "_FOLDER", None)
    assert library.availability() == before


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path):
    assert fingerprint(tmp_path) is None
    found = set()
    for name, text in (("a.cpp", "1"), ("a.cpp", "2"), ("a.h", "2"), ("b.h", "2")):
        (tmp_path / name).write_text(text)
        found.add(fingerprint(tmp_path))
    assert len(found) == 4
    (tmp_path / "a.py").write_text("3")
    assert fingerprint(tmp_path) in found


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    "changed",
    ["setup.py", *(f"src/densenets/ops/backends/cpp/csrc/{name}" for name in ("vector.h", "block.cpp"))],
)
def test_make_builds_again_when_a_source_changes(changed: str, tmp_path: Path):
    later = time.time() + 60
    for stamp in (".python", ".kernels"):
        (tmp_path / stamp).touch()
        os.utime(tmp_path / stamp, (later, later))

    def commands(*options: str) -> str:
        make = ["make", "--dry-run", *options, f"VENV={tmp_path}", f"{tmp_path}/.kernels"]
        return subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "build_ext" not in commands()
    assert "build_ext --inplace" in commands("-W", changed)
