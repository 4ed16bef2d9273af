"""What a fused execution is made of: one BN-ReLU-convolution unit, forward and backward.

Feature maps are matrices in channels-last form: P pixels (batch and sides flattened) x channels, so that a
unit reads the first columns of the block's shared buffer and writes its own behind them.

Shapes: P pixels of the input, Q of the output, C channels read, M channels made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter


class Moments(NamedTuple):
    """Mean and variance of channels, both C; the variance divided by the number of pixels."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True, kw_only=True)
class Unit:
    """BN-ReLU-convolution, perhaps with average pooling before its product, and dropout behind it.

    Attributes:
        x: P x C, a view of the first columns of a matrix.
        batch: images.
        sides: of an image in x, in pixels; one, two or three.
        moments: what the normalisation uses, of the batch or running.
        scale: C; gamma.
        shift: C; beta.
        epsilon: what is added to the variance.
        weight: M x C x *kernel, the kernel's sides all 1 or all 3.
        pool: average 2 x 2 (x 2) pixels of ReLU's result; exact where a kernel of side 1 follows, because
            the two commute, at a quarter of the multiply-adds.
        keep: Q x M of uint8, 1 where dropout keeps a value; None without dropout.
        keep_scale: what a kept value is multiplied by.
    """

    x: Tensor
    batch: int
    sides: tuple[int, ...]
    moments: Moments
    scale: Tensor
    shift: Tensor
    epsilon: float
    weight: Tensor
    pool: bool = False
    keep: Tensor | None = None
    keep_scale: float = 1.0

    @property
    def out_pixels(self) -> int:
        """Q."""
        pixels = self.batch
        for side in self.sides:
            pixels *= side // 2 if self.pool else side
        return pixels


class Completion(NamedTuple):
    """What is still missing from the gradient of a result that batch normalisations have read.

    With statistics of the batch, each of them takes two corrections from the gradient of its input. They
    need sums over all pixels, so they come last: gradient - (sums[0] + (result - mean) sums[1]) / pixels.

    Attributes:
        result: Q x M, what the forward pass wrote.
        mean: M, of the batch.
        sums: 2 x M, of all consumers.
        pixels: that the statistics were taken over.
    """

    result: Tensor
    mean: Tensor
    sums: Tensor
    pixels: float


class UnitParameters(NamedTuple):
    """Of one unit, or their gradients: gamma and beta (C) and the weight (M x C x *kernel)."""

    scale: Tensor
    shift: Tensor
    weight: Tensor


class Kernels(Protocol):
    """An implementation of the unit.

    Feature maps and their gradients have the block's data type, all other tensors its accumulation type.
    """

    def expect(self, *buffers: Tensor) -> None:
        """Prepare fresh memory that is going to be written as a whole."""
        ...

    def statistics(self, x: Tensor) -> Moments:
        """Of the columns of P x C."""
        ...

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, and return its moments if asked to."""
        ...

    def backward(
        self,
        unit: Unit,
        gradient: Tensor,
        completion: Completion | None,
        x_gradient: Tensor,
        *,
        accumulate: bool,
        sums: Tensor | None,
    ) -> UnitParameters:
        """Send the gradient of the result, Q x M, through the unit.

        Args:
            unit: as in the forward pass.
            gradient: with respect to the result; completed on the way in.
            completion: what it lacks; None where it is complete.
            x_gradient: P x C; written, or added to with `accumulate`.
            accumulate: whether to add.
            sums: 2 x C, what the completion of x's gradient will need; added to. None where the statistics
                are constants.
        """
        ...

    def complete(self, gradient: Tensor, completion: Completion, out: Tensor) -> None:
        """Write the completed gradient, Q x M."""
        ...


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """The type of sums, statistics and parameters' gradients: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def compute_type(tensor: Tensor) -> torch.dtype:
    """The type that a tensor is computed with: its own, or autocast's, which leaves float64 alone."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def as_matrix(x: Tensor) -> Tensor:
    """N x C x *sides -> P x C; a view of what lies in channels-last form, a copy of anything else."""
    return x.movedim(1, -1).contiguous().view(-1, x.shape[1])


def ready(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter as kernels can read it; see `ready_list`."""
    return ready_list([tensor], dtype)[0]


def ready_list(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Parameters as kernels can read them: of a type, without gaps, at addresses for it; copies of others.

    Weights that lie in a file may begin anywhere. There are hundreds, and they are almost always as they
    should be, so little is done for each.
    """
    # What is traced has no address.
    if not tensors or type(tensors[0]) not in (Tensor, Parameter) or tensors[0].is_meta:
        return [t if t.dtype == dtype and t.is_contiguous() else t.to(dtype).contiguous() for t in tensors]
    size = dtype.itemsize
    return [
        t
        if t.dtype == dtype and t.is_contiguous() and not t.data_ptr() % size
        else t.to(dtype, copy=True).contiguous()
        for t in tensors
    ]
