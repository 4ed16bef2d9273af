"""Statistics of the batch of all ranks, for the fused executions."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor

from densenets.ops.backends.unit import BatchNormGradCorrection, Moments
from densenets.ops.sync_batch_norm import combine


class GlobalBatch:
    """Statistics and sums of the batch of all ranks; of this one alone where they are not synchronized."""

    def __init__(self, matrix: Tensor, *, synchronized: bool) -> None:
        self._synchronized = synchronized and torch.distributed.is_initialized()
        self._pixels = matrix.shape[0]
        self._total = pixels_of_all_ranks(matrix, self._pixels) if synchronized else float(self._pixels)

    def moments(self, own: Moments) -> Moments:
        """Per-channel mean and variance of the batch of all ranks, from those of this one."""
        if not self._synchronized:
            return own
        count = torch.full_like(own.mean, self._pixels)
        mean, variance, _ = combine(torch.stack([own.mean, own.variance, count]))
        return Moments(mean, variance)

    def correction(self, result: Tensor, mean: Tensor, sums: Tensor) -> BatchNormGradCorrection:
        """The correction of a result's gradient, by the sums of all ranks; `sums`, 2 x M, are this one's."""
        if self._synchronized:
            sums = sums.clone()
            torch.distributed.all_reduce(sums)
        return BatchNormGradCorrection(result, mean, sums, self._total)


def pixels_of_all_ranks(like: Tensor, pixels: int) -> float:
    """The sum of `pixels` over all ranks; `like` is on the device that they talk through."""
    if not torch.distributed.is_initialized():
        return float(pixels)
    total = torch.tensor(float(pixels), dtype=torch.float64, device=like.device)
    torch.distributed.all_reduce(total)
    return total.item()
