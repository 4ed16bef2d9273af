"""An exported network as what predicts and is evaluated, whatever its engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densenets.checkpoint import shape_text
from densenets.data.preprocessing import Preprocessing
from densenets.engines.description import ExportDescription
from densenets.engines.session import Session
from densenets.errors import InputError

# Pixels of a run, for each thread, above which it is no faster: 4 images of 224 x 224, 196 of 32 x 32.
_PIXELS_PER_THREAD = 4 * 224 * 224


@dataclass(frozen=True)
class ExportedNetwork:
    """An exported file that an engine has loaded.

    Attributes:
        description: what stands in the file beside its graph.
        session: the graph in the engine.
    """

    description: ExportDescription
    session: Session

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; logit i is that of classes[i]."""
        return self.description.network.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the network's input."""
        return self.description.network.preprocessing

    @property
    def details(self) -> dict[str, Any]:
        """Where the checkpoint comes from (recipe, epoch, data), for people to read."""
        return self.description.network.details

    @property
    def engine(self) -> str:
        """What runs it, with its version, for people."""
        return self.session.engine

    def check_pictures(self, *, classify: bool = True) -> None:
        """Check that the network can classify pictures.

        Args:
            classify: whether it has to have classes; features come without.

        Raises:
            InputError: it reads no pictures, or larger ones than the preprocessing makes.
        """
        self.description.network.check_pictures(classify=classify)

    def network(self, device: torch.device) -> nn.Module:
        """The network: normalised images, N x C x H x W, -> N x classes logits.

        Raises:
            InputError: the device is no CPU.
        """
        if device.type != "cpu":
            raise InputError(f"{self.session.engine} runs exported files on the CPU here, not on {device}")
        return EngineModule(self)


class EngineModule(nn.Module):
    """The graph of an exported file as a module, which runs as many images at once as the file takes."""

    def __init__(self, exported: ExportedNetwork) -> None:
        super().__init__()
        self._exported = exported

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, N x C x H x W, -> N x classes logits.

        Raises:
            InputError: the file is not for images of this size; compiled code would not notice.
        """
        exported = self._exported
        facts, made = exported.description.facts, exported.preprocessing
        side = made.image_size
        expected = (made.channels, *(images.shape[2:] if "size" in facts.dynamic else (side, side)))
        if tuple(images.shape[1:]) != expected:
            raise InputError(
                f"the file was exported for images of {shape_text(expected)}, got "
                f"{shape_text(images.shape[1:])}; --dynamic size exports it for any"
            )
        if facts.input == "uint8":
            images = pixels_of(images, exported.preprocessing)
        # Of a file for one image at a time that many; of others what keeps the machine busy.
        most = most_images(images.shape[-2:]) if "batch" in facts.dynamic else 1
        runs = [exported.session.run(_contiguous(part)) for part in images.split(most)]
        return torch.from_numpy(np.concatenate(runs))


def most_images(sides: torch.Size) -> int:
    """How many images of H x W pixels an engine computes at once with this machine's threads."""
    return max(1, _PIXELS_PER_THREAD * torch.get_num_threads() // sides.numel())


def pixels_of(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The pixels that images were normalised from, exactly: float32 N x C x H x W -> uint8 N x C x H x W."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)


def _contiguous(images: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    array: np.ndarray[Any, np.dtype[Any]] = images.detach().cpu().contiguous().numpy()
    return array
