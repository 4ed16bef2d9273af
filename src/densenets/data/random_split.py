"""Random splits of a data set's images into two parts: over all images, or each class in proportion."""

from __future__ import annotations

import torch
from torch import Tensor


def held_out_split(count: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split `count` images at random: (indices that stay, indices held out), each ascending.

    Args:
        count: number of images.
        held_out: a number of images, or a share below 1.
        seed: which images; the same seed holds out the same ones.
    """
    number = round(held_out * count) if held_out < 1 else int(held_out)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[number:].sort().values, order[:number].sort().values


def stratified_split(labels: Tensor, number: int, seed: int, *, staying: int) -> tuple[Tensor, Tensor]:
    """Split images at random, every class in proportion: (indices that stay, indices taken), each ascending.

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
    while (shortfall := number - int(shares.sum())) != 0:
        adjustable = shares < most if shortfall > 0 else shares > 1
        distance = (exact - shares) * (1 if shortfall > 0 else -1)
        shares[distance.masked_fill(~adjustable, -torch.inf).argmax()] += 1 if shortfall > 0 else -1
    return shares
