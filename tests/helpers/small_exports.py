"""A small checkpoint whose network tells pictures apart, and the files that it is exported to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from small_networks import small_config
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.checkpoint import save_checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.engines.description import Format
from densenets.export.checkpoint_export import export
from densenets.export.export_config import ExportConfig
from densenets.models.densenet import DenseNet

CLASSES = ("one", "two", "zero")
PREPROCESSING = Preprocessing(channels=3, image_size=12, resize=14, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def lively_network(**changes: Any) -> DenseNet:
    """A network in evaluation mode whose norms are far from the identity."""
    generator = torch.Generator().manual_seed(0)
    network = DenseNet(small_config(**changes), "reference", generator)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.2, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(-0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return network.eval()


def save_small_checkpoint(path: Path, details: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write the checkpoint of a lively network of three classes."""
    network = lively_network(**{"num_classes": 3, "block_layers": (1, 1), **changes})
    assert isinstance(network.classifier, nn.Linear)
    digits = torch.tensor(load_digits(return_X_y=True)[0][:20]).float().view(-1, 1, 8, 8) / 16
    with torch.no_grad():  # so that pictures differ in their likeliest class
        network.classifier.weight.mul_(20)
        network.classifier.bias.zero_()
        if network.config.spatial_dims == 2:
            shape = (-1, network.config.in_channels, -1, -1)
            network.classifier.bias.sub_(network((digits.expand(shape) - 0.5) / 0.3).mean(dim=0))
    save_checkpoint(path, network.state_dict(), network.config, CLASSES, PREPROCESSING, details or {})
    return path


def write_pictures(folder: Path, count: int = 6) -> Path:
    """Write handwritten digits as PNG files of 16 x 16."""
    images, _ = load_digits(return_X_y=True)
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.rint(images[number].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(np.kron(pixels, np.ones((2, 2), np.uint8))).save(folder / f"{number}.png")
    return folder


def export_to(folder: Path, to: Format, name: str, *, pixels: bool = False) -> Path:
    """A file of a folder's small checkpoint, written there with pictures where they are not; returns it.

    Args:
        folder: of the checkpoint, network.safetensors, and of the pictures.
        to: the form of the file.
        name: of the file.
        pixels: whether it takes pixels, any batch of any size; else one normalised image of its size.
    """
    if not (folder / "pictures").exists():
        save_small_checkpoint(folder / "network.safetensors", {"recipe": "digits"})
        write_pictures(folder / "pictures")
    config = ExportConfig(
        checkpoint=folder / "network.safetensors",
        to=to,
        images=folder / "pictures",
        out=folder / name,
        dynamic=("batch", "size") if pixels else (),
        with_preprocessing=pixels,
    )
    return export(config).file
