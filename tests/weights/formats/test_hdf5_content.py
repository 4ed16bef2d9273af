"""HDF5 files and archives that were made to do harm, read as Keras' files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from native_parsers import parse_here

from densenets.errors import InputError
from densenets.weights.formats.keras_file import read_keras

KINDS = ("model.h5", "model.keras", "model.weights.h5")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_here(monkeypatch)


def repack(path: Path, parts: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def written(path: Path) -> Path:
    """A small file of one layer, as Keras 3 writes it."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.random.default_rng(0).random((40, 30), np.float32)
    return path


def test_no_file_a_folder_and_text_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no weights file"):
        read_keras(tmp_path / "none.h5")
    with pytest.raises(InputError, match="is not a file"):
        read_keras(tmp_path)
    (tmp_path / "text.h5").write_text("not weights\n")
    with pytest.raises(InputError, match=r"text\.h5 cannot be read: it is not a whole HDF5 file"):
        read_keras(tmp_path / "text.h5")


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "model.h5")
    if name.endswith(".keras"):
        path = repack(tmp_path / name, {"config.json": b"{}", "model.weights.h5": path.read_bytes()})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="is not a whole"):
        read_keras(path)


def test_zeros_that_are_packed_or_never_written_are_not_spread_out(tmp_path: Path) -> None:
    for name, packing in (("packed", {"compression": "gzip"}), ("unwritten", {"chunks": (1000, 1000)})):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            weights = file.create_dataset("a/vars/0", (4000, 4000), "f4", **packing)
            if name == "packed":
                weights[:] = 0
        assert path.stat().st_size < 10**6
        with pytest.raises(InputError, match="a/vars/0 are much larger than the file itself"):
            read_keras(path)


def test_an_archive_with_much_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    path, config = tmp_path / "model.keras", b"{}"
    parts = {"config.json": config, "model.weights.h5": bytes(10**8)}
    with pytest.raises(InputError, match="its parts are together much larger than the file"):
        read_keras(repack(path, parts, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match=r"is not a whole \.keras file"):
        read_keras(repack(path, {"config.json": config}))


@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_are_not_followed(tmp_path: Path, kind: str) -> None:
    other = written(tmp_path / "other.weights.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["layers"] = (
            h5py.ExternalLink(other.name, "/layers") if kind == "external" else h5py.SoftLink("/a")
        )
    with pytest.raises(InputError, match="layers is a link to another place or file, which is not followed"):
        read_keras(tmp_path / "link.h5")


def test_datasets_in_other_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(16)))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        place = [(str(tmp_path / "secret"), 0, 16)]
        file.create_dataset("a/vars/0", (4,), "f4", external=place)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["secret"] = np.zeros(4, np.float32)
    view = h5py.VirtualLayout((4,), "f4")
    view[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "secret", (4,))
    with h5py.File(tmp_path / "view.h5", "w") as file:
        file.create_virtual_dataset("a/vars/0", view)
    for name in ("raw.h5", "view.h5"):
        with pytest.raises(InputError, match="a/vars/0 lies in another file, which is not read"):
            read_keras(tmp_path / name)


def test_groups_in_a_circle_are_gone_through_once(tmp_path: Path) -> None:
    path = written(tmp_path / "model.weights.h5")
    before = read_keras(path)
    with h5py.File(path, "r+") as file:
        file["layers/circle"] = file["/"]
    found = read_keras(path)
    assert [module.keys for module in found.modules] == [module.keys for module in before.modules]
    assert len(found.modules) == 1


def test_a_tensor_stands_in_one_layer(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array(["a", "a"], "S")
        file["a/a/kernel:0"] = np.ones((4, 3), np.float32)
        file["a"].attrs["weight_names"] = np.array(["a/kernel:0"], "S")
    with pytest.raises(InputError, match="a/a/kernel:0 stands in two layers"):
        read_keras(path)
    with h5py.File(path, "r+") as file:
        file["a"].attrs["weight_names"] = np.array(["a/kernel:0", "a/bias:0"], "S")
    with pytest.raises(InputError, match="a/a/bias:0 is missing"):
        read_keras(path)
