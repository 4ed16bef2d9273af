"""The verb export, and exported files in predict and evaluate, as a user meets them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from small_exports import save_small_checkpoint, write_pictures

from densenets.cli import main as cli


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint, pictures, and labelled pictures."""
    monkeypatch.chdir(tmp_path)
    save_small_checkpoint(tmp_path / "network.safetensors")
    write_pictures(tmp_path / "pictures")
    for name in ("one", "two", "zero"):
        write_pictures(tmp_path / "labelled" / name, count=2)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a wrong command ends with."""
    capsys.readouterr()
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


EXPORT = ("export", "network.safetensors", "--images", "pictures")


def test_a_file_is_exported_and_predicts_the_same(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*EXPORT, "--to", "torch-export", "--dynamic", "size,batch", "--with-preprocessing"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("network.pt2: torch-export of float32, ")
    assert "reads pixels (uint8), any batch and size" in printed[0]
    assert printed[1].startswith("compared with PyTorch's network on 6 images of pictures: ")
    tables = []
    for run in (["network.safetensors"], ["network.pt2", "--trust"]):
        assert cli.run(["predict", run[0], "pictures", *run[1:]]) == 0
        captured = capsys.readouterr()
        tables.append(list(csv.DictReader(io.StringIO(captured.out))))
    assert captured.err == f"classified by torch {torch.__version__}\n"
    for one, other in zip(*tables, strict=True):
        assert [one["path"], one["class1"], one["class2"]] == [
            other["path"],
            other["class1"],
            other["class2"],
        ]
        assert float(one["probability1"]) == pytest.approx(float(other["probability1"]), abs=1e-5)


def test_a_file_is_evaluated_as_its_checkpoint(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*EXPORT, "--to", "torch-export", "--dynamic", "batch"]) == 0
    capsys.readouterr()
    results = []
    for run in (["network.safetensors"], ["network.pt2", "--trust"]):
        assert cli.run(["evaluate", *run, "--data", "labelled", "--workers", "0", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    one, other = results
    assert one["confusion"] == other["confusion"]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert other["engine"] == f"torch {torch.__version__}"
    assert cli.run(["evaluate", "network.pt2", "--trust", "--data", "labelled", "--workers", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f" images/s by torch {torch.__version__}")


def test_wrong_words_are_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--dynamic must be batch, size or batch,size, got 'channels'" in refused(
        capsys, *EXPORT, "--dynamic", "batch,channels"
    )
    assert "--to must be" in refused(capsys, *EXPORT, "--to", "onnxx")
    assert "there is no run or checkpoint gone" in refused(capsys, "export", "gone")
    assert "name some with --images FOLDER" in refused(capsys, "export", "network.safetensors")
    (world / "mine.onnx").write_bytes(b"no model")
    assert "mine.onnx is no file that onnxruntime runs" in refused(capsys, "predict", "mine.onnx", "pictures")
    assert "--to onnx" in refused(
        capsys, "evaluate", "network.safetensors", "--engine", "onnxruntime", "--data", "labelled"
    )


def test_options_of_checkpoints_are_refused_of_files(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*EXPORT, "--to", "torch-export"]) == 0
    line = refused(
        capsys, "evaluate", "network.pt2", "--trust", "--precision", "bfloat16", "--data", "labelled"
    )
    assert "--column and --precision are of checkpoints" in line
    assert "on the CPU here, not on meta" in refused(
        capsys, "predict", "network.pt2", "pictures", "--trust", "--device", "meta"
    )
