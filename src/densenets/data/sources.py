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

    def joined(self, others: FileImages) -> FileImages:
        """These images, then others."""
        return FileImages(self.paths + others.paths, torch.cat([self.labels, others.labels]))

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


def stratified_split(labels: Tensor, number: int, seed: int, *, staying: int) -> tuple[Tensor, Tensor]:
    """Split images at random, each class in proportion: (indices that stay, indices taken), each ascending.

    Of every class at least one image is taken and at least `staying` stay.

    Args:
        labels: int64, N; of classes 0 ... without a gap.
        number: images taken.
        seed: which images; the same seed takes the same ones.
        staying: images of each class that have to stay.

    Raises:
        ValueError: there are too few images for that, or `number` is smaller than the number of classes.
    """
    counts = torch.bincount(labels)
    taken = _shares(counts, number, counts - staying)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]  # class by class, at random within each
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    is_taken = place < taken[labels[by_class]]
    return by_class[~is_taken].sort().values, by_class[is_taken].sort().values


def _shares(counts: Tensor, number: int, most: Tensor) -> Tensor:
    """Images to take of each class: `number` in all, in proportion to `counts`, each in 1 ... `most`."""
    if not len(counts) <= number <= int(most.sum()) or int(most.min()) < 1:
        raise ValueError(f"number must be from {len(counts)} to {int(most.sum())} images, got {number}")
    exact = counts * (number / int(counts.sum()))
    shares = exact.floor().long().clamp(min=torch.ones_like(most), max=most)
    while (missing := number - int(shares.sum())) != 0:
        room = shares < most if missing > 0 else shares > 1
        distance = (exact - shares) * (1 if missing > 0 else -1)
        shares[distance.masked_fill(~room, -torch.inf).argmax()] += 1 if missing > 0 else -1
    return shares
