"""Files in native parsers: what they hand over, and what becomes of a parser that crashes, hangs or grows."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
from onnx_graphs import graph

from densenets.errors import InputError
from densenets.profiling.peak_memory import PeakMemory
from densenets.weights.formats import native_files
from densenets.weights.formats.native_content import Hdf5Content, OnnxContent
from densenets.weights.formats.native_files import read_natively


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.h5"
    with h5py.File(path, "w") as file:
        file["a/b"] = np.arange(6, dtype=np.float32).reshape(2, 3)
        file["a"].attrs["weight_names"] = np.array(["b"], "S")
        file["text"] = "no number"
    return path


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that stands in for the parsers' process, to be written."""
    monkeypatch.setattr(native_files, "WORKER", "other_worker")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"), prepend=":")
    (tmp_path / "modules").mkdir()
    return tmp_path / "modules" / "other_worker.py"


def test_arrays_and_names_come_out_of_the_process(good: Path, tmp_path: Path) -> None:
    content, arrays = read_natively(good, "hdf5", Hdf5Content)
    assert [(own.name, own.array) for own in content.datasets] == [("a/b", 0), ("text", None)]
    assert content.attributes == {"a": {"weight_names": ["b"]}}
    assert arrays[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    weights = {"w": np.ones((1, 1, 1), np.float64), "unused": np.array([True, False])}
    path = graph(tmp_path / "a.onnx", [("Conv", ["x", "w"], "y", {"pads": [0, 0]})], **weights)
    found, arrays = read_natively(path, "onnx", OnnxContent)
    assert (found.inputs, found.outputs, len(found.nodes)) == (["x"], ["y"], 1)
    assert found.nodes[0].integers == {"pads": [0, 0]}
    assert [own.name for own in found.initializers] == ["w", "unused"]
    assert [str(array.dtype) for array in arrays] == ["torch.float64", "torch.bool"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import time\ntime.sleep(60)", r"it took longer than 0\.5\d* s"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print('what')", "the process gave no result"),
        ("print('{\"datasets\": 3}')", "datasets: expected array, got int"),
    ],
    ids=["crash", "hang", "exit", "no answer", "another answer"],
)
def test_a_process_that_fails_is_one_line(
    good: Path, worker: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    worker.write_text(program)
    if "sleep" in program:
        monkeypatch.setattr(native_files, "SECONDS", 0.5)
    with pytest.raises(InputError, match=rf"good\.h5 cannot be read: .*{reason}"):
        read_natively(good, "hdf5", Hdf5Content)


@pytest.mark.skipif(sys.platform != "linux", reason="addresses are limited on Linux alone")
def test_a_parser_that_grows_without_end_is_stopped(good: Path, worker: Path) -> None:
    worker.write_text(
        textwrap.dedent(
            """
            from densenets.weights.formats import native_worker

            def content(job):
                bytearray(4 * 2**30)

            native_worker._content = content
            native_worker.main()
            """
        )
    )
    with pytest.raises(InputError, match="it takes more memory than a file of its size may"):
        read_natively(good, "hdf5", Hdf5Content)


@pytest.mark.slow
def test_a_bomb_takes_no_memory_of_this_process(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        # One piece of nearly 4 GB, the most that there may be, of which a corner is the dataset's.
        sides = (2**15, 2**15 - 1)
        piece = file.create_dataset("a", (4, 4), "f4", chunks=sides, maxshape=sides)
        piece.id.write_direct_chunk((0, 0), bytes(64))
    memory = PeakMemory()
    with pytest.raises(InputError, match=r"bomb\.h5 cannot be read"):
        read_natively(path, "hdf5", Hdf5Content)
    assert memory.read() < 10**8


def test_a_module_of_the_current_folder_is_not_run(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("h5py", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    content, _ = read_natively(good, "hdf5", Hdf5Content)
    assert len(content.datasets) == 2
