"""Activations that weights do not show, found in the running statistics of networks that have seen images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import DenseNet

from densenets.errors import InputError
from densenets.weights.formats.pytorch_file import read_pytorch
from densenets.weights.recognition import DenseNetWeights, Unsaid, recognized_densenet


def network(activation: nn.Module, where: str = "relu", momentum: float = 0.1) -> DenseNet:
    """torchvision's network with an activation in the place of the ReLUs of a name, and lively norms."""
    torch.manual_seed(0)
    model = DenseNet(8, (2, 3, 2), 16, num_classes=5)
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU) and name.startswith(where):
                setattr(module, name, activation)
            if isinstance(child, nn.BatchNorm2d):
                child.momentum = momentum
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.normal_(child.bias, std=0.3)
    return model


def recognized(model: nn.Module, path: Path, steps: int, unsaid: Unsaid | None = None) -> DenseNetWeights:
    """What is found in the model's file when it has seen that many batches."""
    model.train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(steps):
            model(torch.rand(8, 3, 64, 64, generator=generator))
    torch.save(model.state_dict(), path)
    return recognized_densenet(read_pytorch(path), unsaid=unsaid)


@pytest.mark.parametrize("steps", [1, 2, 40])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6()], ids=str)
def test_relus_are_taken_from_the_first_step_on(tmp_path: Path, activation: nn.Module, steps: int) -> None:
    assert recognized(network(activation), tmp_path / "net.pth", steps).weights


@pytest.mark.parametrize("steps", [2, 40])
@pytest.mark.parametrize(
    "activation",
    [nn.GELU(), nn.SiLU(), nn.Mish(), nn.ELU(), nn.LeakyReLU(0.2), nn.Hardswish(), nn.Tanh(), nn.Identity()],
    ids=str,
)
def test_other_activations_are_refused(tmp_path: Path, activation: nn.Module, steps: int) -> None:
    with pytest.raises(InputError, match=r"its dense layers have no ReLUs, as its running statistics show"):
        recognized(network(activation), tmp_path / "net.pth", steps)


def test_transitions_are_judged_by_themselves(tmp_path: Path) -> None:
    model = network(nn.ReLU())
    for name in ("transition1", "transition2"):
        model.features.get_submodule(name).relu = nn.Identity()
    with pytest.raises(InputError, match=r"its transitions have no ReLUs.*\(what fits: none\)"):
        recognized(model, tmp_path / "net.pth", 20)


def test_it_can_be_said_that_they_are_relus(tmp_path: Path) -> None:
    assert recognized(network(nn.SiLU()), tmp_path / "net.pth", 20, Unsaid(activation="relu")).weights


def test_statistics_near_their_beginning_that_counted_nothing_tell_nothing(tmp_path: Path) -> None:
    model = network(nn.ReLU(), momentum=0.01)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None  # as in Keras, and in old files
    assert recognized(model, tmp_path / "net.pth", 4).weights
