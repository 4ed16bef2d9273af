"""A port of DenseNet as many are written: its own names, new maps first or last, and more that differs."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class Bottleneck(nn.Module):
    """A dense layer with the maps it adds first or last."""

    def __init__(self, channels: int, growth: int, width: int, new_first: bool, bias: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width * growth, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(width * growth)
        self.conv2 = nn.Conv2d(width * growth, growth, 3, padding=1, bias=bias)
        self.new_first = new_first

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return torch.cat([new, x] if self.new_first else [x, new], 1)


class Transition(nn.Module):
    """A transition, with the ReLU that some forget or without."""

    def __init__(self, channels: int, bias: bool, relu: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=bias)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        return avg_pool2d(self.conv(x.relu() if self.relu else x), 2)


class OtherPort(nn.Module):
    """A DenseNet-BC for small images with the names of kuangliu/pytorch-cifar."""

    def __init__(
        self,
        *,
        new_first: bool = True,
        bias: bool = False,
        width: int = 4,
        relu: bool = True,
    ) -> None:
        super().__init__()
        growth = 4
        channels = 2 * growth
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=bias)
        for block, layers in enumerate((3, 2, 3), start=1):
            places = range(channels, channels + layers * growth, growth)
            made = [Bottleneck(place, growth, width, new_first, bias) for place in places]
            self.add_module(f"dense{block}", nn.Sequential(*made))
            channels += layers * growth
            if block < 3:
                self.add_module(f"trans{block}", Transition(channels, bias, relu))
                channels //= 2
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.dense3(self.trans2(self.dense2(x)))
        return self.linear(self.bn(x).relu().mean((2, 3)))


def with_statistics(model: nn.Module) -> nn.Module:
    """The network with weights of its own, and the running statistics of some images."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 1:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches, as an average that has settled
        for _ in range(4):
            model.train()(torch.randn(8, 3, 16, 16, generator=generator))
    return model.eval()


def without_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in their order, under names that say nothing."""
    numbers = itertools.count(7919, 104729)
    return {f"{next(numbers) % 999983:x}": value for value in weights.values()}
