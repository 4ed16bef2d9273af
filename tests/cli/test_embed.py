"""The verb embed, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from small_exports import save_small_checkpoint, write_pictures

from densenets.classifier import Classifier
from densenets.cli import main as cli


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a checkpoint and six pictures."""
    monkeypatch.chdir(tmp_path)
    save_small_checkpoint(tmp_path / "network.safetensors")
    write_pictures(tmp_path / "pictures")
    return tmp_path


PATHS = [str(Path("pictures") / f"{number}.png") for number in range(6)]


def expected(paths: list[str] = PATHS) -> np.ndarray:
    return Classifier.load("network.safetensors", device="cpu").embed(paths).numpy()


def test_paths_and_features_are_arrays_without_pickles(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["embed", "network.safetensors", "pictures"]) == 0
    features = expected()
    assert capsys.readouterr().out == f"embeddings.npz: {features.shape[1]} features of each of 6 pictures\n"
    with np.load("embeddings.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"paths", "features"}
        assert arrays["paths"].tolist() == PATHS
        assert arrays["features"].dtype == np.float32
        np.testing.assert_array_equal(arrays["features"], features)


def test_a_parquet_table_has_a_column_of_each(world: Path) -> None:
    words = ["embed", "network.safetensors", *PATHS, "--out", "out/table.Parquet", "--batch-size", "4"]
    assert cli.run(words) == 0
    table = parquet.read_table(world / "out" / "table.Parquet")
    assert table.column_names == ["path", "features"]
    assert table["path"].to_pylist() == PATHS
    features = expected()
    assert str(table.schema.field("features").type).startswith("fixed_size_list<")
    # float32: a convolution may add in another order for another number of pictures.
    np.testing.assert_allclose(np.array(table["features"].to_pylist()), features, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["table.npz", "table.parquet"])
def test_broken_pictures_stop_it_and_leave_the_old_file_or_are_left_out(
    world: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (world / "pictures" / "2.png").write_bytes(b"no picture")
    (world / name).write_bytes(b"old")
    words = ["embed", "network.safetensors", "pictures", "--out", name, "--batch-size", "2"]
    assert cli.run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken image pictures/2.png" in line
    assert line.endswith("; --skip-broken leaves such pictures out")
    assert (world / name).read_bytes() == b"old"
    assert cli.run([*words, "--skip-broken"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("skipped: broken image pictures/2.png")
    assert "features of each of 5 pictures" in captured.out
    assert [path.name for path in world.iterdir() if "partial" in path.name] == []
    kept = PATHS[:2] + PATHS[3:]
    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as arrays:
            assert arrays["paths"].tolist() == kept
    else:
        assert parquet.read_table(name)["path"].to_pylist() == kept


@pytest.mark.parametrize("name", ["table.npz", "table.parquet"])
def test_a_name_that_is_no_text_is_escaped(world: Path, name: str) -> None:
    odd = world / "pictures" / "odd\udcff.png"
    try:
        (world / "pictures" / "0.png").rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert cli.run(["embed", "network.safetensors", "pictures", "--out", name]) == 0
    if name.endswith(".npz"):
        with np.load(name, allow_pickle=False) as arrays:
            paths = arrays["paths"].tolist()
    else:
        paths = parquet.read_table(name)["path"].to_pylist()
    assert str(Path("pictures") / "odd\\udcff.png") in paths


def test_wrong_words_are_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "network.onnx").write_bytes(b"")
    for words, message in (
        (["network.safetensors", "pictures", "--batch-size", "0"], "--batch-size is at least 1"),
        (["network.safetensors", "pictures", "--out", "table.csv"], "--out must end in .npz or .parquet"),
        (["network.safetensors", "pictures", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["network.onnx", "pictures"], "network.onnx gives logits only, no features; load the checkpoint"),
    ):
        assert cli.run(["embed", *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert message in line
    assert not (world / "embeddings.npz").exists()
