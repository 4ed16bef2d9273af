"""What predicts and is evaluated: a checkpoint, or a network that was exported."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from densenets.data.preprocessing import Preprocessing


class TrainedNetwork(Protocol):
    """A trained network of pictures and all that its use needs."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; logit i is that of classes[i]."""

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the network's input."""

    @property
    def details(self) -> dict[str, Any]:
        """Where it comes from (recipe, epoch, data), for people to read."""

    @property
    def engine(self) -> str:
        """What runs it, with its version, for people."""

    def check_pictures(self, *, classify: bool = True) -> None:
        """Check that the network can classify pictures.

        Args:
            classify: whether it has to have classes; features come without.

        Raises:
            InputError: it reads no pictures, or larger ones than the preprocessing makes.
        """

    def network(self, device: torch.device) -> nn.Module:
        """The network on a device: normalised images, N x C x H x W, -> N x classes logits.

        Raises:
            InputError: it does not run on this device.
            NotFinite: weights are NaN or infinite.
        """
