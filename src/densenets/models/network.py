"""What all networks have in common, and what training asks of them.

Shapes: N batch, C channels, *sides the spatial sides.
"""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from densenets.models.configs.base import NetworkConfig
from densenets.models.initialization import linear_uniform_


class CompanionLogits(NamedTuple):
    """What a network with companion classifiers gives while it is trained.

    Attributes:
        logits: N x classes, the network's own.
        companions: N x classes each, of the companion classifiers.
    """

    logits: Tensor
    companions: tuple[Tensor, ...]


def all_logits(output: Tensor | CompanionLogits) -> tuple[Tensor, ...]:
    """The network's own logits, then the companions'."""
    return (output.logits, *output.companions) if isinstance(output, CompanionLogits) else (output,)


class PathDraws:
    """The random numbers that decide which layers a training step uses.

    Unseeded they come from PyTorch's generator. Training seeds them for every step, alike on all ranks: with
    synchronised statistics all ranks have to run the same layers.
    """

    def __init__(self) -> None:
        self._random: random.Random | None = None

    def seed(self, seed: int) -> None:
        """Begin a sequence of numbers that follows from the seed alone."""
        self._random = random.Random(seed)

    def draw(self) -> float:
        """A number in [0, 1)."""
        return self._random.random() if self._random else float(torch.rand(()))


class Network(nn.Module, ABC):
    """An image classifier: N x C x *sides -> N x classes logits.

    Attributes:
        config: what it is.
        paths: which layers a training step uses, where that is drawn.
    """

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.paths = PathDraws()

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps, which the classifier averages over the image: N x C x *sides -> N x channels x *."""

    @abstractmethod
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew, as the network's paper does."""

    def forward(self, x: Tensor) -> Tensor | CompanionLogits:
        """N x C x *sides -> N x classes."""
        features = self.forward_features(x)
        logits: Tensor = self.get_submodule(self.config.head)(features.flatten(start_dim=2).mean(dim=2))
        return logits

    def run_as_tested(self, x: Tensor) -> None:
        """Run in each of the ways in which the network can be tested: N x C x *sides, for its statistics."""
        self(x)

    def reset_classifier(self, num_classes: int, generator: torch.Generator | None = None) -> None:
        """Put a fresh linear layer of `num_classes` in the classifier's place."""
        weight = next(self.parameters())
        features = self.config.num_features
        linear = nn.Linear(features, num_classes, device=weight.device, dtype=weight.dtype)
        linear_uniform_(linear, generator)
        self.set_submodule(self.config.head, linear)
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
