"""What is installed, and what is said where something is not."""

from __future__ import annotations

import ctypes
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT

from densenets.doctor import installation
from densenets.doctor.installation import BASE_PACKAGES, base_packages, compilers, extras, kernels, variables
from densenets.extras import PACKAGES
from densenets.ops.backends.cpp import library
from densenets.ops.backends.cpp.library import INSTRUCTION_SET_VARIABLE, Library

AVX512 = frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"})


@pytest.fixture
def no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the native kernels were not built."""
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    library._find_library.cache_clear()
    yield
    library._find_library.cache_clear()


@pytest.fixture
def two_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for two instruction sets, on a processor with AVX-512."""
    loaded = Library(ctypes.CDLL(None), ("portable", "avx2"))
    monkeypatch.setattr(library, "_find_library", lambda: loaded)
    monkeypatch.setattr(installation, "instructions", lambda: AVX512)
    monkeypatch.delenv(INSTRUCTION_SET_VARIABLE, raising=False)


def test_the_packages_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [text.partition(">=")[0] for text in project["dependencies"]] == list(BASE_PACKAGES)
    assert all(package.version for package in base_packages())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installation, "BASE_PACKAGES", ("torch", "no-such-package"))
    assert [package.version is None for package in base_packages()] == [False, True]


def test_extras_and_what_they_lack(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = {facts.name: facts for facts in extras()}
    assert list(found) == list(PACKAGES)
    assert found["report"].missing == ("matplotlib",)
    assert found["report"].command == 'pip install "densenets[report]"'
    assert found["digits"].missing == ()
    assert found["digits"].versions["scikit-learn"]


@pytest.mark.usefixtures("no_kernels")
def test_kernels_that_were_not_built():
    facts = kernels()
    assert facts.chosen is None
    assert facts.instruction_sets == facts.without == ()
    assert "were not built when densenets was installed" in facts.reason


@pytest.mark.usefixtures("two_sets")
def test_kernels_that_lack_what_the_processor_has(monkeypatch: pytest.MonkeyPatch):
    facts = kernels()
    assert (facts.chosen, facts.reason, facts.without) == ("avx2", "", ("avx512",))
    monkeypatch.setattr(installation, "instructions", frozenset)  # a system that does not list them
    assert kernels().without == ()


@pytest.mark.usefixtures("two_sets")
def test_an_instruction_set_that_there_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, "avx3")
    facts = kernels()
    assert facts.chosen is None
    assert facts.instruction_sets == ("portable", "avx2")
    assert "unknown DENSENETS_INSTRUCTION_SET 'avx3'; did you mean avx2?" in facts.reason


def program(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="programs are scripts here")
def test_compilers_are_asked_for_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path / "g++", "print('g++ 14.2\\nCopyright')")
    program(tmp_path / "clang++", "raise SystemExit(3)")
    program(tmp_path / "mine", "import sys; print('mine 1', file=sys.stderr)")
    (tmp_path / "c++").write_text("#!/no/such/interpreter\n")
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "mine -pthread")
    found = {facts.name: facts.version for facts in compilers()}
    assert list(found) == ["mine", "c++", "g++", "clang++"]
    assert (found["mine"], found["g++"], found["clang++"]) == (
        "mine 1",
        "g++ 14.2",
        "it says nothing of itself",
    )
    assert found["c++"].startswith("it does not run: ")


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compilers() == ()


def test_only_variables_that_matter_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_SECRET", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("CXX", raising=False)
    told = variables()
    assert told["OMP_NUM_THREADS"] == "3"
    assert not told.keys() & {"SOME_SECRET", "CXX"}
