"""Notebooks run from top to bottom, and are kept as they were written, without what they print and draw."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from documents import NOTEBOOKS, name_of
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook


@pytest.fixture
def _own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter and IPython leave their files in a temporary folder."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def run_notebook(path: Path, folder: Path) -> nbformat.NotebookNode:
    """A notebook that was run in a folder, with its outputs.

    Raises:
        CellExecutionError: a cell failed; with the cell and its stack trace.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}})
    return client.execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
@pytest.mark.slow
@pytest.mark.usefixtures("_own_jupyter")
@pytest.mark.timeout(900)
def test_a_notebook_runs(path: Path, tmp_path: Path):
    cells = run_notebook(path, tmp_path).cells
    pictures = [
        output
        for cell in cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == sum("mystnb" in cell.metadata for cell in cells)


@pytest.mark.slow
@pytest.mark.usefixtures("_own_jupyter")
def test_a_cell_that_fails_is_a_failure(tmp_path: Path):
    path = tmp_path / "some.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("x = 0"), new_code_cell("1 / x")]), path)
    with pytest.raises(CellExecutionError, match=r"1 / x(.|\n)*ZeroDivisionError"):
        run_notebook(path, tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_holds_what_was_written_alone(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
        # Of a cell that draws, the words for those who do not see the picture.
        assert not cell.metadata or cell.metadata["mystnb"]["image"]["alt"]
