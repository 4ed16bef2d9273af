"""Base class of all networks: an image classifier with a config, which checks its input and its modules.

Shapes: N batch, C channels, *sides the spatial sides.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.errors import InputError
from densenets.models.initialization import linear_uniform_
from densenets.models.network_config import NetworkConfig

Result = TypeVar("Result")


class CompanionLogits(NamedTuple):
    """Output of a network with companion classifiers in training.

    Attributes:
        logits: N x classes, the network's own.
        companions: N x classes from each companion classifier.
    """

    logits: Tensor
    companions: tuple[Tensor, ...]


def all_logits(output: Tensor | CompanionLogits) -> tuple[Tensor, ...]:
    """All logits of an output, N x classes each: the network's, then its companion classifiers'."""
    return (output.logits, *output.companions) if isinstance(output, CompanionLogits) else (output,)


class PathDraws:
    """Random numbers that decide which layers a training step runs (Stochastic Depth, drop-path).

    Unseeded they come from PyTorch's generator. Training seeds them for every step, alike on all ranks: with
    synchronised statistics all ranks have to run the same layers.
    """

    def __init__(self) -> None:
        self._random: random.Random | None = None

    def seed(self, seed: int) -> None:
        """Start a sequence of numbers that depends on the seed alone."""
        self._random = random.Random(seed)

    def draw(self) -> float:
        """A random number in [0, 1)."""
        return self._random.random() if self._random else float(torch.rand(()))


class Network(nn.Module, ABC):
    """An image classifier: N x C x *sides -> N x classes logits.

    Attributes:
        config: of its layers.
        paths: random numbers of the layers that a training step runs.
        sides: indices of the spatial dimensions, over which the last maps are averaged.
    """

    if TYPE_CHECKING:  # TorchScript reads annotations, and does not know this one
        config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.paths = PathDraws()
        self.sides = list(range(2, 2 + config.spatial_dims))
        self._structure: dict[str, tuple[str, str]] = {}

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """The last maps, before the mean over the image: N x C x *sides -> N x num_features x *last sides."""

    @abstractmethod
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again, from the distributions of the network's paper."""

    def forward(self, x: Tensor) -> Tensor | CompanionLogits:
        """N x C x *sides -> N x classes; without classes, N x num_features."""
        logits: Tensor = self.get_classifier()(self.forward_features(x).mean(dim=self.sides))
        return logits

    @property
    def num_features(self) -> int:
        """Channels that the classifier reads."""
        return self.config.num_features

    def get_classifier(self) -> nn.Module:
        """The module that computes the logits."""
        return self.get_submodule(self.config.head)

    def run_evaluated_paths(self, x: Tensor) -> None:
        """Run every path that evaluation may use on N x C x *sides, to update all running statistics."""
        self(x)

    def reset_classifier(self, num_classes: int, generator: torch.Generator | None = None) -> None:
        """Replace the classifier by a fresh linear layer of `num_classes`; 0 gives pooled features."""
        weight = next(self.parameters())
        head = make_head(self.config.num_features, num_classes).to(weight.device, weight.dtype)
        if isinstance(head, nn.Linear):
            linear_uniform_(head, generator)
        self.set_submodule(self.config.head, head)
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        self.record_structure(self.config.head)

    def checked_call(self, run: Callable[[Tensor], Result], x: Tensor) -> Result:
        """run(x), where images of a wrong shape raise an `InputError` instead of PyTorch's error.

        Raises:
            InputError: the images have other channels than the first convolution reads, or are too small.
        """
        if torch.compiler.is_compiling():
            return run(x)
        with self.checking_input(x):
            return run(x)

    @contextlib.contextmanager
    def checking_input(self, x: Tensor) -> Iterator[None]:
        """A context that replaces PyTorch's error over images of a wrong shape by an `InputError`.

        Raises:
            InputError: the images have other channels than the first convolution reads, or are too small.
        """
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if (reason := self.input_error(x)) is not None:
                raise reason from error
            raise

    def input_error(self, x: Tensor) -> InputError | None:
        """The error for images, N x C x *sides, that the modules cannot read; None if they can."""
        first = next((m for m in self.modules() if isinstance(m, _ConvNd)), None)
        if first is None or not isinstance(x, Tensor) or x.dim() != self.config.spatial_dims + 2:
            return None
        try:
            dataclasses.replace(self.config, in_channels=first.in_channels).check_input(tuple(x.shape))
        except InputError as error:
            return error
        return None

    def record_structure(self, part: str = "") -> None:
        """Record the modules, or those of the submodule `part`, as those that the config describes."""
        others = {name: v for name, v in self._structure.items() if part and not _is_in(name, part)}
        self._structure = others | {n: v for n, v in _structure(self).items() if not part or _is_in(n, part)}

    def changed_module(self) -> str | None:
        """The first name of a module replaced, added or removed since `record_structure`; None for none."""
        current = _structure(self)
        names = self._structure.keys() | current.keys()
        return min((name for name in names if self._structure.get(name) != current.get(name)), default=None)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # A state dict is the user's own, whatever was changed; a checkpoint would lose it without a word.
        if (changed := self.changed_module()) is not None:
            destination._metadata.setdefault(prefix[:-1], {})[CHANGED_MODULE] = changed


CHANGED_MODULE = "changed_module"  # in the metadata of a network's state dict, beside PyTorch's "version"


def make_head(num_features: int, num_classes: int) -> nn.Module:
    """A linear classifier; the identity for 0 classes."""
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _structure(network: nn.Module) -> dict[str, tuple[str, str]]:
    """Name -> type and settings of every module, as far as the network's output depends on them."""
    return {name: _type_and_settings(module) for name, module in network.named_modules() if name}


def _type_and_settings(module: nn.Module) -> tuple[str, str]:
    type_name = "BatchNorm" if isinstance(module, _BatchNorm) else type(module).__qualname__
    own_code = " with a forward of its own" if "forward" in module.__dict__ else ""
    # In place or not, the output is the same; momentum matters only in training.
    settings = re.sub(r"(, )?(inplace|momentum)=[^,)]*", "", module.extra_repr())
    return type_name + own_code, settings
