"""ONNX and IR files opened and run, and one line for what is not to be opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from small_exports import export_to

from densenets.checkpoint import read_checkpoint
from densenets.engines.engine import open_classifier, read_exported
from densenets.engines.openvino_library import core, openvino
from densenets.errors import InputError
from densenets.prediction import find_images, predict
from densenets.trained_network import TrainedNetwork

pytestmark = pytest.mark.slow  # the exporters take seconds to be imported

CPU = torch.device("cpu")

# What each file is opened by.
FILES = {
    "one.onnx": "onnxruntime",
    "any.onnx": "onnxruntime",
    "any.xml": "openvino",
    "one.xml": "openvino",
    "any.pt2": "torch",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, pictures, and the checkpoint in every form that needs no compiler."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("one", "any"):
        export_to(folder, "onnx", f"{kind}.onnx", pixels=kind == "any")
        export_to(folder, "openvino", f"{kind}.xml", pixels=kind == "any")
    export_to(folder, "torch-export", "any.pt2", pixels=True)
    return folder


@pytest.fixture
def copies(exported: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to damage."""
    return shutil.copytree(exported, tmp_path / "copies")


def rows(
    classifier: TrainedNetwork, pictures: Path, batch_size: int
) -> Iterator[tuple[tuple[str, ...], list[float]]]:
    for prediction in predict(classifier, find_images([pictures]), device=CPU, batch_size=batch_size):
        yield prediction.classes, list(prediction.probabilities)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_exported_file_predicts_what_the_checkpoint_does(
    exported: Path, name: str, batch_size: int
) -> None:
    checkpoint = read_checkpoint(exported / "network.safetensors", "reference")
    opened = read_exported(exported / name, trust=True)
    assert opened.engine.split()[0] == FILES[name]
    assert (opened.classes, opened.preprocessing) == (checkpoint.classes, checkpoint.preprocessing)
    assert opened.details == checkpoint.details
    expected = list(rows(checkpoint, exported / "pictures", 3))
    predicted = list(rows(opened, exported / "pictures", batch_size))
    assert len({classes for classes, _ in expected}) > 1
    for one, other in zip(expected, predicted, strict=True):
        assert one[0] == other[0]
        assert one[1] == pytest.approx(other[1], abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["one.onnx", "one.xml", "one.bin"])
def test_a_truncated_file_is_one_line(copies: Path, name: str, share: float) -> None:
    content = (copies / name).read_bytes()
    (copies / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as refused:
        read_exported((copies / name).with_suffix(".xml" if name == "one.bin" else Path(name).suffix))
    assert len(str(refused.value)) < 1000


def test_a_file_that_is_missing_is_told(copies: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*gone\.onnx"):
        read_exported(copies / "gone.onnx")
    (copies / "one.bin").unlink()
    with pytest.raises(
        InputError, match=r"there is no file .*one.bin; an .xml file of OpenVINO has its weights"
    ):
        read_exported(copies / "one.xml")


def test_a_file_runs_in_its_own_engine_alone(exported: Path) -> None:
    with pytest.raises(InputError, match="onnxruntime runs, not openvino"):
        open_classifier(exported / "one.onnx", "openvino")
    with pytest.raises(InputError, match="unknown engine 'tensorrt'"):
        open_classifier(exported / "one.onnx", "tensorrt")  # type: ignore[arg-type]


def test_exported_files_run_on_the_cpu(exported: Path) -> None:
    opened = read_exported(exported / "one.onnx")
    with pytest.raises(InputError, match="on the CPU here, not on cuda"):
        opened.network(torch.device("cuda"))


def test_the_weights_beside_an_xml_file_are_its_own(copies: Path) -> None:
    content = bytearray((copies / "one.bin").read_bytes())
    content[100] ^= 1  # as those of another network of the same shapes would be others
    (copies / "one.bin").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"one\.bin does not hold the weights of .*one\.xml"):
        read_exported(copies / "one.xml")


def test_a_foreign_onnx_file_lacks_the_classes(copies: Path) -> None:
    model = onnx.load(copies / "one.onnx")
    del model.metadata_props[:]
    onnx.save(model, copies / "foreign.onnx")
    with pytest.raises(InputError, match="not written by densenets export: its metadata have no format"):
        read_exported(copies / "foreign.onnx")


def test_a_foreign_ir_lacks_the_classes(copies: Path) -> None:
    model = core().read_model(copies / "one.xml")
    del model.rt_info["densenets"]
    openvino.save_model(model, copies / "foreign.xml")
    with pytest.raises(InputError, match="not written by densenets export: its metadata have no format"):
        read_exported(copies / "foreign.xml")


def changed_metadata(file: Path, **changes: str) -> Path:
    """A copy of an ONNX file with other texts in its metadata."""
    model = onnx.load(file)
    texts = {entry.key: entry.value for entry in model.metadata_props} | changes
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, file.with_name("changed.onnx"))
    return file.with_name("changed.onnx")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("classes", '["one", "two"]', "2 names for 3 classes"),
        ("classes", "[", "classes is no JSON"),
        ("preprocessing", "{}", "preprocessing"),
        ("export", "{}", "export: "),
        ("model", '{"family": "densenet"}', "does not describe a network"),
    ],
)
def test_a_broken_description_is_told(copies: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_exported(changed_metadata(copies / "one.onnx", **{name: text}))


def test_weights_in_other_files_are_refused(copies: Path) -> None:
    model = onnx.load(copies / "one.onnx")
    onnx.save(
        model, copies / "outside.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    with pytest.raises(InputError, match="its weights lie in other files"):
        read_exported(copies / "outside.onnx")


def test_logits_of_other_classes_than_described_are_refused(copies: Path) -> None:
    model = onnx.load(copies / "one.onnx")
    name = model.graph.output[0].name
    (last,) = (node for node in model.graph.node if name in node.output)
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Concat", ["before", "before"], [name], axis=1))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    onnx.save(model, copies / "wide.onnx")
    with pytest.raises(InputError, match="does not fit its own description"):
        read_exported(copies / "wide.onnx")
