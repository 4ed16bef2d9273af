"""docs/architecture.py notices every difference between the code and what the document shows of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import ROOT


@pytest.fixture(scope="module")
def written_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with a document that is up to date."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("src", "docs", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "*.png")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for file in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / file, root / file)
    assert run(root) == (0, "")
    return root


@pytest.fixture
def checkout(written_checkout: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written_checkout, tmp_path / "checkout")


def run(root: Path, *arguments: str) -> tuple[int, str]:
    """The program's exit code and what it writes to standard error."""
    command = [sys.executable, root / "docs" / "architecture.py", *arguments]
    # Of the checkout alone, wherever the package is installed from.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=root, env={"PYTHONDONTWRITEBYTECODE": "1"}
    )
    return done.returncode, done.stderr


def test_a_second_run_changes_nothing(checkout: Path):
    files = [checkout / "docs" / name for name in ("architecture.md", "images/architecture.svg")]
    before = [file.read_bytes() for file in files]
    assert run(checkout, "--check") == (0, "")
    assert run(checkout) == (0, "")
    assert [file.read_bytes() for file in files] == before


def _new_file(root: Path) -> None:
    (root / "src/densenets/ops/more.py").write_text('"""More."""\n')


def _renamed_file(root: Path) -> None:
    (root / "src/densenets/ops/backends/cpp/csrc/pack.h").rename(root / "src/densenets/ops/pack.h")


def _new_docstring(root: Path) -> None:
    (root / "src/densenets/errors.py").write_text('"""Other words."""\n')


def _new_import_in_a_function(root: Path) -> None:
    path = root / "src/densenets/limits.py"
    path.write_text(path.read_text() + "\n\ndef f():\n    from densenets import cli\n")


def _changed_drawing(root: Path) -> None:
    path = root / "docs/images/architecture.svg"
    path.write_text(path.read_text().replace("training", "learning"))


@pytest.mark.parametrize(
    "change", [_new_file, _renamed_file, _new_docstring, _new_import_in_a_function, _changed_drawing]
)
def test_what_is_out_of_date_is_told_in_one_line(change: Callable[[Path], None], checkout: Path):
    change(checkout)
    code, said = run(checkout, "--check")
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "run python docs/architecture.py" in said


def test_every_source_has_its_line(written_checkout: Path):
    document = (written_checkout / "docs/architecture.md").read_text()
    tree = document.partition("<!-- begin tree -->")[2].partition("<!-- end tree -->")[0]
    names = [line.split()[0].rpartition("/")[2] for line in tree.splitlines() if line.strip()]
    sources = [path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*")]
    sources = [path for path in sources if path.suffix in (".py", ".cpp", ".h")]
    sources = [path for path in sources if path.name != "__init__.py"]
    assert len(sources) > 100
    for name in {path.name for path in sources}:
        assert names.count(name) == sum(path.name == name for path in sources), name
