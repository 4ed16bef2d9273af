"""DenseNets as other programs write them: their names for the weights, and the DICE port's own modules."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from small_networks import small_config
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig

SMALL = small_config(block_layers=(2, 1, 2), num_classes=10)

Weights = dict[str, Tensor]


def randomized(model: nn.Module, seed: int = 0) -> Any:
    """The network with other numbers in every tensor, so that no two can be taken for one another."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(
                torch.rand(value.shape, generator=generator) + (0.5 if "running_var" in key else -0.3)
            )
        else:
            value.fill_(int(torch.randint(1, 1000, (), generator=generator)))
    return model.eval()


def small_network(config: DenseNetConfig = SMALL) -> DenseNet:
    return randomized(DenseNet(config))


def old_key(key: str) -> str:
    """`denselayer1.norm.1.weight`, as in the files that torchvision published."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)


def dice_key(key: str) -> str:
    """A key of `SMALL` as the DICE port has it, whose tables are written here by hand."""
    module, _, tensor = key.rpartition(".")
    top = {
        "features.conv0": "conv1",
        "features.transition1.norm": "trans1.bn1",
        "features.transition1.conv": "trans1.conv1",
        "features.transition2.norm": "trans2.bn1",
        "features.transition2.conv": "trans2.conv1",
        "features.norm5": "bn1",
        "classifier": "fc",
    }
    layers = {
        "features.denseblock1.denselayer1": "block1.layer.0",
        "features.denseblock1.denselayer2": "block1.layer.1",
        "features.denseblock2.denselayer1": "block2.layer.0",
        "features.denseblock3.denselayer1": "block3.layer.0",
        "features.denseblock3.denselayer2": "block3.layer.1",
    }
    parts = {"norm1": "bn1", "conv1": "conv1", "norm2": "bn2", "conv2": "conv2"}
    if module in top:
        return f"{top[module]}.{tensor}"
    layer, _, part = module.rpartition(".")
    return f"{layers[layer]}.{parts[part]}.{tensor}"


RENAMES: dict[str, Callable[[str], str]] = {
    "torchvision": str,
    "torchvision-old": old_key,
    "dice": dice_key,
}


def renamed(weights: Weights, form: str, prefix: str = "") -> Weights:
    return {prefix + RENAMES[form](key): value for key, value in weights.items()}


class Layer(nn.Module):
    """A layer as the DICE port computes it."""

    def __init__(self, channels: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        width = 4 * growth if bottleneck else growth
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(
            channels, width, 1 if bottleneck else 3, padding=0 if bottleneck else 1, bias=False
        )
        if bottleneck:
            self.bn2 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.bn1(x).relu())
        if hasattr(self, "conv2"):
            new = self.conv2(self.bn2(new).relu())
        return torch.cat([x, new], 1)


class Block(nn.Module):
    def __init__(self, layers: int, channels: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Layer(channels + i * growth, growth, bottleneck) for i in range(layers)))


class Transition(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.conv1(self.bn1(x).relu()), 2)


class Port(nn.Module):
    """The DICE port's network: three blocks of n layers, two transitions to half the channels."""

    def __init__(self, n: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        for number in (1, 2, 3):
            self.add_module(f"block{number}", Block(n, channels, growth, bottleneck))
            channels += n * growth
            if number < 3:
                self.add_module(f"trans{number}", Transition(channels))
                channels //= 2
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.block1.layer(self.conv1(x)))
        x = self.block3.layer(self.trans2(self.block2.layer(x)))
        return self.fc(avg_pool2d(self.bn1(x).relu(), 8).flatten(1))
