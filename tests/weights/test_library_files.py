"""Checkpoints that leave for torchvision and timm: there and back the same tensors and the same logits."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from foreign_weights import randomized
from PIL import Image
from safetensors.torch import load_file
from small_networks import small_config
from torch import Tensor, nn

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.images import central_crop, read_image
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import named_config
from densenets.weights.library_files import _NAMED, timm_config, write_timm, write_torchvision
from densenets.weights.reading import read_file
from densenets.weights.recognition import recognized_densenet

SIZES = {"growth_rate": 8, "block_config": (2, 3)}
CLASSES = ("cat", "dog", "größer", "a, b", "")


def preprocessing_of(channels: int, image_size: int = 33, resize: int = 38) -> Preprocessing:
    mean, std = (0.1, 0.2, 0.3)[:channels], (0.5, 0.6, 0.7)[:channels]
    return Preprocessing(channels=channels, image_size=image_size, resize=resize, mean=mean, std=std)


def checkpoint_of(theirs: nn.Module, path: Path) -> Checkpoint:
    """Ours of a network of theirs, through a file."""
    torch.save(theirs.state_dict(), path)
    found = recognized_densenet(read_file(path))
    model = build_network(found.config)
    model.load_state_dict(found.weights, strict=True)
    classes = CLASSES[: found.config.num_classes]
    return Checkpoint(model.eval(), classes, preprocessing_of(found.config.in_channels), {})


def fresh(config: NetworkConfig) -> Checkpoint:
    classes = tuple(f"class {number}" for number in range(config.num_classes))
    return Checkpoint(build_network(config).eval(), classes, preprocessing_of(config.in_channels), {})


def imagenet_config(**changes: Any) -> NetworkConfig:
    return small_config(**{"stem": "imagenet", **changes})


def is_of(network: nn.Module, expected: nn.Module, channels: int) -> None:
    """Check that two networks have the same tensors and the same logits."""
    ours, theirs = network.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    images = torch.randn(2, channels, 35, 33)
    with torch.no_grad():
        assert torch.equal(network.eval()(images), expected.eval()(images))


def agrees(network: nn.Module, checkpoint: Checkpoint) -> None:
    """Check that a library's network has a checkpoint's tensors, and its logits but for rounding."""
    ours, theirs = checkpoint.model.state_dict(), network.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    images = torch.randn(2, checkpoint.preprocessing.channels, 35, 33)
    with torch.no_grad():
        expected, actual = checkpoint.model(images), network.eval()(images)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# torchvision


@pytest.mark.parametrize("changes", [{}, {"num_init_features": 12, "bn_size": 2}])
def test_from_torchvision_and_back_gives_the_same_tensors_and_logits(tmp_path: Path, changes: dict[str, int]):
    theirs = randomized(torchvision.models.DenseNet(num_classes=5, **SIZES, **changes))
    checkpoint = checkpoint_of(theirs, tmp_path / "theirs.pth")
    call = write_torchvision(checkpoint, tmp_path / "back" / "again.pth")
    again = eval(call)
    again.load_state_dict(torch.load(tmp_path / "back" / "again.pth", weights_only=True), strict=True)
    is_of(again, theirs, channels=3)
    agrees(again, checkpoint)


@pytest.mark.parametrize("odd", [{"growth_rate": 3, "block_layers": (1, 2, 1)}, {"dropout": 0.2}])
def test_our_own_networks_go_to_torchvision(tmp_path: Path, odd: dict[str, Any]):
    checkpoint = fresh(imagenet_config(**odd))
    call = write_torchvision(checkpoint, tmp_path / "ours.pt")
    theirs = eval(call)
    theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True), strict=True)
    agrees(theirs, checkpoint)


@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet169", "densenet201"])
def test_the_named_ones_have_their_names(name: str):
    assert name in _NAMED
    config = named_config(name)
    source = inspect.getsource(getattr(torchvision.models, name))
    assert f"_densenet({config.growth_rate}, {config.block_layers}, {2 * config.growth_rate}, " in source


@pytest.mark.slow
def test_a_named_one_is_called_by_its_name(tmp_path: Path):
    checkpoint = fresh(named_config("densenet121"))
    assert write_torchvision(checkpoint, tmp_path / "121.pth") == "torchvision.models.densenet121()"
    theirs = torchvision.models.densenet121()
    theirs.load_state_dict(torch.load(tmp_path / "121.pth", weights_only=True), strict=True)
    agrees(theirs, checkpoint)


# timm


@pytest.mark.parametrize("changes", [{}, {"in_chans": 1}, {"bn_size": 2, "in_chans": 2}, {"num_classes": 0}])
def test_from_timm_and_back_gives_the_same_tensors_and_logits(tmp_path: Path, changes: dict[str, int]):
    timm = pytest.importorskip("timm")
    theirs = randomized(timm.models.densenet.DenseNet(**{"num_classes": 5, **SIZES, **changes}))
    checkpoint = checkpoint_of(theirs, tmp_path / "theirs.pth")
    call = write_timm(checkpoint, tmp_path / "folder")
    again = eval(call)
    is_of(again, theirs, channels=changes.get("in_chans", 3))
    agrees(again, checkpoint)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_timm_loads_strictly(tmp_path: Path):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    folder = tmp_path / "folder"
    write_timm(fresh(imagenet_config()), folder)
    weights = load_file(folder / "model.safetensors")
    del weights["features.norm5.running_mean"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"features\.norm5\.running_mean"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet264"])
def test_timm_loads_the_named_ones(tmp_path: Path, name: str):
    timm = pytest.importorskip("timm")
    checkpoint = fresh(named_config(name))
    write_timm(checkpoint, tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    has_name = name != "densenet264"
    assert described["architecture"] == (name if has_name else "densenet121")
    assert ("model_args" in described) != has_name
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    agrees(theirs, checkpoint)
    assert theirs.num_features == described["num_features"] == checkpoint.model.num_features


def test_timm_knows_the_classes_and_makes_the_same_image_of_a_picture(tmp_path: Path):
    timm = pytest.importorskip("timm")
    checkpoint = fresh(imagenet_config(num_classes=5))
    write_timm(checkpoint, tmp_path / "folder")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)
    assert tuple(theirs.pretrained_cfg["label_names"]) == checkpoint.classes
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    assert torch.equal(transform(Image.fromarray(pixels)), image_of(tmp_path / "picture.png", checkpoint))


def image_of(picture: Path, checkpoint: Checkpoint) -> Tensor:
    preprocessing = checkpoint.preprocessing
    image = central_crop(read_image(picture, preprocessing.channels), preprocessing)
    return normalize(image[None], preprocessing)[0]


def test_timm_resizes_to_the_same_side():
    config, sides = (
        named_config("densenet121"),
        [(224, 256), (299, 299), *((28, 28 + more) for more in range(99))],
    )
    assert any(math.floor(side / (side / resize)) < resize for side, resize in sides)  # the quotient alone
    for side, resize in sides:
        share = timm_config(config, (), preprocessing_of(3, side, resize))["pretrained_cfg"]["crop_pct"]
        assert math.floor(side / share) == resize  # as timm does
        assert share == pytest.approx(side / resize)


# Refusals


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"stem": "cifar"}, "stem imagenet, and this network's is cifar"),
        ({"bottleneck": False}, "bottleneck True, and this network's is False"),
        ({"compression": 1.0}, "compression 0.5, and this network's is 1.0"),
        ({"compression": 0.3}, "compression 0.5, and this network's is 0.3"),
        ({"spatial_dims": 3}, "spatial_dims 2, and this network's is 3"),
        ({"spatial_dims": 1}, "spatial_dims 2, and this network's is 1"),
        ({"norm_epsilon": 1.001e-5}, "norm_epsilon 1e-05, and this network's is 1.001e-05"),
    ],
)
def test_another_network_is_refused_by_the_field_that_differs(
    tmp_path: Path, changes: dict[str, Any], field: str
):
    checkpoint = fresh(imagenet_config(**changes))
    with pytest.raises(InputError) as of_torchvision:
        write_torchvision(checkpoint, tmp_path / "out.pth")
    assert str(of_torchvision.value) == f"torchvision's DenseNet has {field}"
    with pytest.raises(InputError) as of_timm:
        write_timm(checkpoint, tmp_path / "out")
    assert str(of_timm.value) == f"timm's DenseNet has {field}"
    assert not list(tmp_path.iterdir())


def test_what_one_library_cannot_the_other_may(tmp_path: Path):
    grey, features, wide = (
        fresh(imagenet_config(**changes))
        for changes in ({"in_channels": 1}, {"num_classes": 0}, {"stem_channels": 12})
    )
    with pytest.raises(InputError, match="has in_channels 3, and this network's is 1"):
        write_torchvision(grey, tmp_path / "out.pth")
    with pytest.raises(InputError, match="has num_classes 1 or more, and this network's is 0"):
        write_torchvision(features, tmp_path / "out.pth")
    with pytest.raises(
        InputError, match="has stem_channels 8, twice the growth rate, and this network's is 12"
    ):
        write_timm(wide, tmp_path / "out")
    write_timm(grey, tmp_path / "grey")
    write_timm(features, tmp_path / "features")
    write_torchvision(wide, tmp_path / "wide.pth")


def test_other_networks_and_changed_ones_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="the network is a ResNet, and timm's DenseNet computes DenseNets"):
        write_timm(fresh(named_config("resnet8")), tmp_path / "out")
    changed = fresh(imagenet_config())
    changed.model.features.norm0 = nn.Identity()
    with pytest.raises(InputError, match=r"the network was changed at features\.norm0"):
        write_torchvision(changed, tmp_path / "out.pth")


def test_a_path_of_another_kind_is_refused(tmp_path: Path):
    checkpoint = fresh(imagenet_config())
    with pytest.raises(InputError, match=r"must be \*\.pth or \*\.pt, such as out\.pth"):
        write_torchvision(checkpoint, tmp_path / "out.safetensors")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file; timm reads a folder, so name one"):
        write_timm(checkpoint, tmp_path / "file")
