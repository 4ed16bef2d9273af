"""A small DenseNet and its checkpoint, for the tests of checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from small_networks import small_config

from densenets.checkpoint import save_checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.models.densenet import DenseNet

CLASSES = ("cat", "dog", "größer", "a, b", "")
PREPROCESSING = Preprocessing(channels=3, image_size=28, resize=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
DETAILS = {"recipe": "digits", "epoch": 3, "errors": {"top1": 2.5}, "note": None}


def trained_network(seed: int = 0) -> DenseNet:
    """A small network after one training step's worth of statistics."""
    config = small_config(
        compression=0.3, stem="imagenet", stem_channels=9, dropout=0.2, num_classes=len(CLASSES)
    )
    generator = torch.Generator().manual_seed(seed)
    model = DenseNet(config, generator=generator)
    model(torch.randn(2, 3, 28, 28, generator=generator))
    return model


def save(path: Path, model: DenseNet) -> None:
    save_checkpoint(path, model.state_dict(), model.config, CLASSES, PREPROCESSING, DETAILS)


def save_with(path: Path, weights: dict[str, torch.Tensor]) -> None:
    save_checkpoint(path, weights, trained_network().config, CLASSES, PREPROCESSING, DETAILS)
