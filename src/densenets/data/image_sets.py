"""Labelled images before they are batched: all in the device's memory, or as files to be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True)
class MemoryImages:
    """Labelled images in the memory of one device.

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
    """Labelled image files, decoded whenever they are needed.

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

    def joined(self, others: FileImages) -> FileImages:
        """These images, then others."""
        return FileImages(self.paths + others.paths, torch.cat([self.labels, others.labels]))

    def to(self, device: torch.device) -> FileImages:  # noqa: ARG002 - the labels go with their batch
        """The same images; files belong to no device."""
        return self


Images = MemoryImages | FileImages
