"""Batch statistics over all ranks, for the fused executions."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor

from densenets.ops.backends.unit import BatchNormGradCorrection, Moments
from densenets.ops.sync_batch_norm import combine


class GlobalBatch:
    """Statistics and sums over the batch of all ranks, or over this rank's where it is not synchronized."""

    def __init__(self, matrix: Tensor, *, synchronized: bool) -> None:
        self._synchronized = synchronized and torch.distributed.is_initialized()
        self._pixels = matrix.shape[0]
        self._total = pixels_of_all_ranks(matrix, self._pixels) if synchronized else float(self._pixels)

    def moments(self, local: Moments) -> Moments:
        """Per-channel mean and variance of the batch of all ranks, from those of this rank's."""
        if not self._synchronized:
            return local
        count = torch.full_like(local.mean, self._pixels)
        mean, variance, _ = combine(torch.stack([local.mean, local.variance, count]))
        return Moments(mean, variance)

    def correction(self, result: Tensor, mean: Tensor, sums: Tensor) -> BatchNormGradCorrection:
        """The correction of a result's gradient over all ranks; `sums`, 2 x M, are this rank's."""
        if self._synchronized:
            sums = sums.clone()
            torch.distributed.all_reduce(sums)
        return BatchNormGradCorrection(result, mean, sums, self._total)


def pixels_of_all_ranks(like: Tensor, pixels: int) -> float:
    """The sum of `pixels` over all ranks; `like` is on the device of the process group."""
    if not torch.distributed.is_initialized():
        return float(pixels)
    total = torch.tensor(float(pixels), dtype=torch.float64, device=like.device)
    torch.distributed.all_reduce(total)
    return total.item()
