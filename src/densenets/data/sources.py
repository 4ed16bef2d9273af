"""Labelled images before they are batched: all on the device, or as files to be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class MemoryImages:
    """Images that live on the device.

    Attributes:
        pixels: uint8, N x C x H x W.
        labels: int64, N, on the same device.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> MemoryImages:
        """The images at `indices`, in that order."""
        indices = indices.to(self.labels.device)
        return MemoryImages(self.pixels[indices], self.labels[indices])

    def to(self, device: torch.device) -> MemoryImages:
        """The same images on a device."""
        return MemoryImages(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class FileImages:
    """Images that are decoded when they are needed.

    Attributes:
        paths: N files.
        labels: int64, N.
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> FileImages:
        """The images at `indices`, in that order."""
        return FileImages(tuple(self.paths[i] for i in indices.tolist()), self.labels[indices])

    def to(self, device: torch.device) -> FileImages:  # noqa: ARG002 - the labels go with their batch
        """The same images; files belong to no device."""
        return self


Images = MemoryImages | FileImages


def held_out_split(count: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split `count` images at random: (indices that stay, indices held out), each ascending.

    Args:
        count: images there are.
        held_out: a number of images, or a share below 1.
        seed: which images; the same seed holds out the same ones.
    """
    number = round(held_out * count) if held_out < 1 else int(held_out)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[number:].sort().values, order[:number].sort().values
