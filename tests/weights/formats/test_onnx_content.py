"""ONNX files that were made to do harm, and where their numbers may lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from foreign_weights import small_network
from native_parsers import parse_here
from onnx import TensorProto, helper
from onnx_graphs import export, graph

from densenets.errors import InputError
from densenets.weights.formats.onnx_file import read_onnx


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_here(monkeypatch)


STEM = ("Conv", ["x", "stem"], "s", {"pads": [1, 1, 1, 1]})
WEIGHTS = {"stem": np.ones((3, 2, 3, 3), np.float32), "next": np.ones((4, 3, 1, 1), np.float32)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export(small_network(), path, torch.rand(1, 3, 16, 16), dynamo=False)


def test_no_file_a_folder_and_text_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no weights file"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is not a file"):
        read_onnx(tmp_path)
    for content in (b"not weights\n", b""):
        (tmp_path / "text.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"text\.onnx cannot be read: it is not a whole ONNX file"):
            read_onnx(tmp_path / "text.onnx")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, exported: Path) -> None:
    content = exported.read_bytes()
    for share in (0.3, 0.9):
        (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="is not a whole ONNX file"):
            read_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize("dims", [[10**5, 10**5, 3, 3], [2**62, 2**62], [-1, 3]])
def test_sizes_that_a_tensor_only_claims_take_no_memory(tmp_path: Path, dims: list[int]) -> None:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    path = graph(tmp_path / "a.onnx", [STEM], stem=WEIGHTS["stem"])
    with pytest.raises(InputError, match=r"are much larger than the file itself|has a negative size"):
        read_onnx(changed_proto(path, change))


def changed_proto(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load_model(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_layers_that_share_their_tensors_are_not_spread_out(tmp_path: Path) -> None:
    steps = [STEM]
    for number in range(400):
        before = f"k{number - 1}" if number else "s"
        steps += [
            ("BatchNormalization", [before, "w", "w", "w", "w"], f"n{number}", {}),
            ("Relu", [f"n{number}"], f"r{number}", {}),
            ("Conv", [f"r{number}", "next"], f"k{number}", {}),
        ]
    channels = 1500
    weights = {
        "stem": np.ones((channels, 1, 3, 3), np.float32),
        "w": np.ones(channels, np.float32),
        "next": np.ones((channels, channels, 1, 1), np.float32),
    }
    with pytest.raises(InputError, match="are much larger than the file itself"):
        read_onnx(graph(tmp_path / "a.onnx", steps, **weights))


def external(path: Path, location: str, **places: int) -> Path:
    """A graph whose convolution's weight lies in another file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **places}.items():
            tensor.external_data.add(key=key, value=str(value))

    return changed_proto(graph(path, [STEM], stem=WEIGHTS["stem"]), change)


def test_numbers_in_a_file_beside_it_are_read(tmp_path: Path) -> None:
    numbers = np.arange(54, dtype=np.float32)
    (tmp_path / "numbers").write_bytes(bytes(8) + numbers.tobytes())
    found = read_onnx(external(tmp_path / "a.onnx", "numbers", offset=8, length=4 * 54))
    np.testing.assert_array_equal(found.modules[0].weight.numpy(), numbers.reshape(3, 2, 3, 3))
    for places in ({"offset": 12}, {"offset": -8}, {"length": 4}, {"offset": 10**18}):
        with pytest.raises(InputError, match="stem is not whole in numbers, the file of its numbers"):
            read_onnx(external(tmp_path / "a.onnx", "numbers", **places))


def test_numbers_are_read_from_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").mkdir()
    for location in (
        "../secret",
        str(tmp_path / "secret"),
        "inner/../../secret",
        "C:secret",
        "..\\secret",
        "",
    ):
        with pytest.raises(InputError, match="which is not inside of its own folder"):
            read_onnx(external(folder / "a.onnx", location))
    for location, reason in (
        ("link", "a link out of its own folder"),
        ("inner", "missing"),
        ("no", "missing"),
    ):
        with pytest.raises(InputError, match=reason):
            read_onnx(external(folder / "a.onnx", location))


def test_half_the_bits_of_a_number_keep_its_value(tmp_path: Path) -> None:
    values = torch.rand(3, 2, 3, 3).bfloat16()

    def change(model: onnx.ModelProto) -> None:
        bits = values.view(torch.int16).numpy().tobytes()
        tensor = helper.make_tensor("stem", TensorProto.BFLOAT16, values.shape, bits, raw=True)
        model.graph.initializer[0].CopyFrom(tensor)

    path = graph(tmp_path / "a.onnx", [STEM], stem=WEIGHTS["stem"])
    found = read_onnx(changed_proto(path, change))
    assert found.modules[0].weight.dtype == torch.float32
    assert (found.modules[0].weight == values).all()
