"""Export of a checkpoint: what is kept, what stands in it, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from small_exports import save_small_checkpoint, write_pictures

from densenets.checkpoint import read_checkpoint
from densenets.engines.engine import read_exported
from densenets.errors import InputError
from densenets.export import checkpoint_export
from densenets.export.checkpoint_export import export, make_draft
from densenets.export.draft import Draft
from densenets.export.export_config import ExportConfig
from densenets.export.verification import BOUND


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with a checkpoint and pictures."""
    save_small_checkpoint(tmp_path / "network.safetensors", {"epoch": 3})
    write_pictures(tmp_path / "pictures")
    return tmp_path


def config(world: Path, **changes: object) -> ExportConfig:
    fields = {"to": "torch-export", "images": world / "pictures", **changes}
    return ExportConfig(checkpoint=world / "network.safetensors", **fields)  # type: ignore[arg-type]


def test_what_was_verified_is_told_and_stands_in_the_file(world: Path) -> None:
    exported = export(config(world))
    assert exported.file == world / "network.pt2"
    first, second = exported.lines
    assert first.startswith(f"{exported.file}: torch-export of float32")
    assert "on 6 images" in second
    assert "the likeliest class is the same on 100.0%" in second
    opened = read_exported(exported.file, trust=True)
    assert opened.description.facts == exported.facts
    verification = opened.description.facts.verification
    assert verification is not None
    assert 0 < verification.relative <= BOUND
    assert opened.details == {"epoch": 3}


@pytest.mark.parametrize("dynamic", [(), ("batch",), ("size",), ("batch", "size")])
@pytest.mark.parametrize("pixels", [False, True])
def test_sizes_vary_as_they_were_exported(world: Path, dynamic: tuple[str, ...], pixels: bool) -> None:
    file = export(config(world, dynamic=dynamic, with_preprocessing=pixels)).file
    opened = read_exported(file, trust=True)
    network = read_checkpoint(world / "network.safetensors", "reference").model
    preprocessing = opened.preprocessing
    values = torch.randint(0, 256, (3, 3, 17, 14), generator=torch.Generator().manual_seed(0)).float() / 255
    shown = {True: values, False: values[..., :12, :12]}["size" in dynamic]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    images = (shown - mean) / std
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(opened.network(torch.device("cpu"))(images), expected, rtol=1e-4, atol=1e-4)
    if "size" not in dynamic:
        # Not by silently computing something else.
        with pytest.raises(InputError, match="was exported for images of 3x12x12, got 3x17x14"):
            opened.network(torch.device("cpu"))((values - mean) / std)


def test_nothing_is_kept_of_a_graph_that_computes_something_else(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object, *arguments: object) -> Draft:
        checkpoint = read_checkpoint(world / "network.safetensors", "reference")
        with torch.no_grad():
            checkpoint.model.get_classifier().bias[0] += 0.01  # type: ignore[operator, index]
        return make_draft(checkpoint, *arguments)  # type: ignore[arg-type]

    (world / "network.pt2").write_bytes(b"older")
    monkeypatch.setattr(checkpoint_export, "make_draft", wrong)
    with pytest.raises(
        InputError, match=r"nothing was kept: .* differ from PyTorch's by 0.01, .* at most 0.0001"
    ):
        export(config(world))
    assert (world / "network.pt2").read_bytes() == b"older"
    assert sorted(path.name for path in world.iterdir()) == ["network.pt2", "network.safetensors", "pictures"]


def test_without_images_they_are_asked_for(world: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not say what it was trained on; .* name some with --images FOLDER"
    ):
        export(config(world, images=None))
    shutil.rmtree(world / "pictures")
    (world / "pictures").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        export(config(world))
    with pytest.raises(InputError, match="is no folder"):
        export(config(world, images=world / "gone"))


def test_images_of_the_run_are_taken_where_they_are(world: Path) -> None:
    data = {"name": "folder", "root": str(world / "data"), "normalization": "imagenet"}
    for split in ("train", "val"):
        for name in ("one", "two", "zero"):
            write_pictures(world / "data" / split / name, count=2)
    checkpoint = save_small_checkpoint(world / "network.safetensors", {"data": data})
    exported = export(ExportConfig(checkpoint=checkpoint, to="torch-export"))
    assert exported.facts.verification is not None
    assert exported.facts.verification.images == 6
    assert exported.facts.verification.source == str(world / "data" / "val")
    shutil.rmtree(world / "data")
    with pytest.raises(InputError, match="the images of the checkpoint's run are not there"):
        export(ExportConfig(checkpoint=checkpoint, to="torch-export"))


def test_signals_and_volumes_are_not_exported(world: Path) -> None:
    save_small_checkpoint(world / "network.safetensors", spatial_dims=3)
    with pytest.raises(InputError, match="pictures need 2 dimensions"):
        export(config(world))


def test_a_wrong_ending_and_8_bits_of_code_are_refused(world: Path) -> None:
    with pytest.raises(InputError, match=r"--out of onnx must end in .onnx, got network.xml"):
        config(world, to="onnx", out=Path("network.xml"))
    with pytest.raises(InputError, match="--most-loss must be a number of points, got nan"):
        config(world, most_loss=float("nan"))
    with pytest.raises(InputError, match="--int8 is of onnx and openvino"):
        config(world, int8=world / "pictures")


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("most_loss", [100.0, -100.0])
def test_8_bits_are_kept_if_they_cost_no_more_than_they_may(world: Path, to: str, most_loss: float) -> None:
    for name in ("one", "two", "zero"):
        write_pictures(world / "labelled" / name, count=4)
    asked = config(
        world, to=to, int8=world / "pictures", evaluate=str(world / "labelled"), most_loss=most_loss
    )
    if most_loss < 0:
        with pytest.raises(InputError, match=r"nothing was kept: int8 has .* is more than --most-loss -100"):
            export(asked)
        assert not asked.file.exists()
        return
    exported = export(asked)
    assert exported.file.stem == "network-int8"
    cost = exported.facts.quantization
    assert cost is not None
    assert (cost.images, cost.calibration_images) == (12, 6)
    opened = read_exported(exported.file)
    assert opened.description.facts == exported.facts
    network = read_checkpoint(world / "network.safetensors", "reference").model
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    difference = (opened.network(torch.device("cpu"))(images) - expected).abs().max()
    # Far from rounding, and far from another network.
    assert 1e-4 < difference / (expected.max() - expected.min()) < 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_network_predicts_the_same(world: Path) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("there is no C++ compiler")
    exported = export(config(world, to="aot-inductor", dynamic=("batch",)))
    assert exported.file == world / "network-aot.pt2"
    with pytest.raises(InputError, match=r"holds code \(a shared library\)"):
        read_exported(exported.file)
    opened = read_exported(exported.file, trust=True)
    assert opened.engine.startswith("aot-inductor ")
    assert opened.description.facts == exported.facts


def test_without_a_compiler_nothing_is_compiled(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(InputError, match="aot-inductor needs a C\\+\\+ compiler"):
        export(config(world, to="aot-inductor"))
