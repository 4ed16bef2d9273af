"""What is built to be published: the archive of sources, and wheels with and without kernels."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from documents import ROOT

import densenets
from densenets.ops.backends.cpp.sources import LIBRARY

NAME = f"densenets-{densenets.__version__}"
CPP = "densenets/ops/backends/cpp"
CHECK = Path(__file__).with_name("check_installed.py")
LIBRARY_BYTES = 6 << 20

pytestmark = pytest.mark.slow
with_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")


def build(kind: str, source: Path, out: Path, **environment: str) -> Path:
    """The path of the `kind` ("sdist", "wheel") that is built from a folder by its own build system."""
    out.mkdir(exist_ok=True)
    code = (
        f"from setuptools.build_meta import build_{kind} as build; print('made', build({os.fspath(out)!r}))"
    )
    command = [sys.executable, "-c", code]
    built = subprocess.run(
        command, cwd=source, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return out / built.stdout.rpartition("made ")[2].strip()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a copy of this checkout."""
    root = tmp_path_factory.mktemp("checkout")
    made = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    shutil.copytree(ROOT / "src", root / "src", ignore=made)
    shutil.copytree(ROOT / "tests", root / "tests", ignore=made)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, root)
    return build("sdist", root, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the archive holds."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the archive; with portable kernels alone, for the others take a minute."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"), DENSENETS_INSTRUCTION_SETS="")


@pytest.fixture(scope="module")
def plain_wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built where there is no compiler."""
    source = tmp_path_factory.mktemp("plain") / NAME
    shutil.copytree(unpacked, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    compilers = dict.fromkeys(("CC", "CXX", "LDSHARED", "LDCXXSHARED"), "no-such-compiler")
    return build("wheel", source, tmp_path_factory.mktemp("plain-wheel"), **compilers)


def members(wheel: Path) -> dict[str, bytes]:
    """Names and contents of a wheel's files, without its metadata."""
    with zipfile.ZipFile(wheel) as files:
        names = [name for name in files.namelist() if not name.startswith(f"{NAME}.dist-info/")]
        return {name: files.read(name) for name in names}


def metadata(wheel: Path, name: str) -> list[str]:
    """The lines of a file of a wheel's metadata."""
    with zipfile.ZipFile(wheel) as files:
        return files.read(f"{NAME}.dist-info/{name}").decode().splitlines()


def package() -> dict[str, bytes]:
    """Names and contents of the package's files in the checkout, without the kernels and their sources."""
    source = ROOT / "src"
    return {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in (source / "densenets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".cpp", ".h", ".so")
    }


def test_an_archive_has_what_a_wheel_is_built_from(unpacked: Path):
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src" / CPP / "csrc").iterdir()}
    assert {f"src/{name}" for name in package()} | sources <= names
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith("tests/")]


@with_compiler
def test_a_wheel_with_kernels_is_of_its_platform_and_of_every_python(wheel: Path):
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name == f"{NAME}-py3-none-{platform}.whl"
    assert f"Tag: py3-none-{platform}" in metadata(wheel, "WHEEL")


@with_compiler
def test_a_wheel_has_the_package_and_its_library_alone(wheel: Path):
    found = members(wheel)
    assert len(found.pop(f"{CPP}/{LIBRARY}")) < LIBRARY_BYTES
    assert found == package()
    assert {"densenets/py.typed", "densenets/report/templates/page.html.jinja"} <= found.keys()


def test_without_a_compiler_a_wheel_is_of_every_platform(plain_wheel: Path):
    assert plain_wheel.name == f"{NAME}-py3-none-any.whl"
    assert members(plain_wheel) == package()


@pytest.mark.skipif(not (ROOT / "src" / CPP / LIBRARY).is_file(), reason="the native kernels were not built")
def test_the_library_of_all_instruction_sets_is_small():
    assert (ROOT / "src" / CPP / LIBRARY).stat().st_size < LIBRARY_BYTES


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty environment, which sees this one's packages behind its own."""
    venv.create(tmp_path / "environment", with_pip=True, symlinks=True)
    paths = {"base": os.fspath(tmp_path / "environment"), "platbase": os.fspath(tmp_path / "environment")}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    here = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "outer.pth").write_text("\n".join(here))
    return Path(sysconfig.get_path("scripts", "venv", paths)) / "python"


def run(python: Path, *arguments: str | Path) -> str:
    """What the interpreter prints, run where no compiler is found and no checkout is near."""
    command = [python, "-I", *arguments]
    done = subprocess.run(
        command,
        cwd=python.parents[1],
        env={"PATH": os.fspath(python.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(python: Path, wheel: Path) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)


@with_compiler
def test_an_installed_wheel_computes_by_its_kernels(wheel: Path, python: Path):
    install(python, wheel)
    printed = run(python, CHECK)
    assert f"of {python.parents[1]}" in printed
    assert "native kernels: portable" in printed
    assert densenets.__version__ in run(python, "-m", "densenets", "--version")


def test_an_installed_wheel_without_kernels_computes_the_same(plain_wheel: Path, python: Path):
    install(python, plain_wheel)
    printed = run(python, CHECK, "--no-kernels")
    assert f"of {python.parents[1]}" in printed
    assert "were not built" in printed
