"""Whole networks saved as objects, whose modules say what their tensors do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import DenseNet

from densenets.errors import InputError
from densenets.weights.formats.pytorch_file import read_pytorch
from densenets.weights.recognition import NoDenseNet, recognized_densenet


def network() -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(8, (2, 2), 16, num_classes=5)


def saved(model: nn.Module, path: Path) -> Path:
    torch.save(model, path)
    return path


def replace(name: str, module: nn.Module) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)

    return change


def settings(name: str, **values: object) -> Callable[[DenseNet], None]:
    def change(model: DenseNet) -> None:
        for setting, value in values.items():
            setattr(model.get_submodule(name), setting, value)

    return change


LAYER = "features.denseblock1.denselayer1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace("features.pool0", nn.Identity()), "features.conv0 has no max pooling behind it"),
        (
            replace("features.transition1.pool", nn.MaxPool2d(2)),
            r"features.transition1.pool \(MaxPool2d\) has",
        ),
        (
            replace("features.transition1.pool", nn.AvgPool2d(3, 2, 1)),
            r"pool \(AvgPool2d\) has another kernel",
        ),
        (replace("features.transition1.pool", nn.MaxPool2d(3, 2, 1)), "pool pools where no DenseNet does"),
        (
            replace(f"{LAYER}.relu1", nn.LeakyReLU(0.01)),
            r"relu1 \(LeakyReLU\) stands where a DenseNet has a ReLU",
        ),
        (replace(f"{LAYER}.relu2", nn.ReLU6()), r"relu2 \(ReLU6\) stands"),
        (
            replace("features.transition1.relu", nn.Upsample(scale_factor=2)),
            r"relu \(Upsample\) is in no DenseNet",
        ),
        (
            settings("features.conv0", stride=(1, 1)),
            r"conv0 \(Conv2d\) has stride 1, where a DenseNet's has 2",
        ),
        (settings(f"{LAYER}.conv2", dilation=(2, 2)), r"conv2 \(Conv2d\) has dilation 2"),
        (settings(f"{LAYER}.conv2", padding=(0, 0)), r"conv2 \(Conv2d\) has padding 0"),
        (settings(f"{LAYER}.conv2", padding_mode="reflect"), r"conv2 \(Conv2d\) pads by reflect"),
    ],
)
def test_what_computes_something_else_is_named(
    tmp_path: Path, change: Callable[[DenseNet], None], reason: str
) -> None:
    model = network()
    change(model)
    with pytest.raises(NoDenseNet, match=reason):
        recognized_densenet(read_pytorch(saved(model, tmp_path / "net.pth")))


@pytest.mark.parametrize(
    "change",
    [
        settings(f"{LAYER}.conv2", padding="same"),
        replace("features.transition1.pool", nn.AvgPool2d(2)),
        replace("classifier", nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 5))),
    ],
)
def test_other_words_for_the_same_are_taken(tmp_path: Path, change: Callable[[DenseNet], None]) -> None:
    model = network()
    change(model)
    assert recognized_densenet(read_pytorch(saved(model, tmp_path / "net.pth"))).config.num_classes == 5


def test_a_head_of_several_layers_may_have_its_own_activations(tmp_path: Path) -> None:
    model = network()
    model.classifier = nn.Sequential(nn.Linear(32, 8), nn.GELU(), nn.Linear(8, 5))  # type: ignore[assignment]
    found = recognized_densenet(read_pytorch(saved(model, tmp_path / "net.pth")))
    assert [key.partition(".")[0] for key in found.head] == ["classifier"] * 4


class Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    model = network()
    model.classifier = nn.Sequential(model.classifier, nn.Softmax(dim=1))  # type: ignore[assignment]
    model.scale = Unknown()
    notes = recognized_densenet(read_pytorch(saved(model, tmp_path / "net.pth"))).notes
    assert "its outputs may be Softmax of the logits (classifier.1); the checkpoint's are the logits" in notes
    assert "what Unknown computes (scale) is not known here, and left out" in notes


@pytest.mark.parametrize("leaf", [nn.ReLU(), nn.Conv2d(3, 4, 3)], ids=str)
def test_modules_that_hold_each_other_end(tmp_path: Path, leaf: nn.Module) -> None:
    wide: nn.Module = leaf
    for _ in range(40):
        wide = nn.Sequential(wide, wide)
    own = nn.Sequential(leaf)
    own._modules["self"] = own
    for model in (wide, own):
        with pytest.raises(InputError, match="its modules hold each other without end"):
            read_pytorch(saved(model, tmp_path / "net.pth"))
