"""What a backend computes: one BN-ReLU-convolution, forward and backward, which fused blocks are made of.

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


class UnitParameters(NamedTuple):
    """Parameters of a unit, or their gradients: gamma and beta (C) and the weight (M x C x *kernel)."""

    scale: Tensor
    shift: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Unit:
    """BN-ReLU-convolution, perhaps with average pooling before its product, and dropout behind it.

    Attributes:
        x: P x C, a view of the first columns of a matrix.
        batch: images.
        sides: of an image in x, in pixels; one, two or three.
        moments: what the normalisation uses, of the batch or running; of any floating-point type.
        scale: C; gamma, of any floating-point type.
        shift: C; beta.
        epsilon: what is added to the variance.
        weight: M x C x *kernel, the kernel's sides all 1 or all 3; of any floating-point type.
        pool: average 2 x 2 (x 2) pixels of ReLU's result; exact where a kernel of side 1 follows, because
            the two commute, at a quarter of the multiply-adds.
        dropout_mask: Q x M of uint8, 1 where dropout keeps a value; None without dropout.
        dropout_scale: what a kept value is multiplied by.
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
    dropout_mask: Tensor | None = None
    dropout_scale: float = 1.0

    @property
    def out_pixels(self) -> int:
        """Pixels of the output."""
        pixels = self.batch
        for side in self.sides:
            pixels *= side // 2 if self.pool else side
        return pixels


class BatchNormGradCorrection(NamedTuple):
    """What batch normalisations that read a result subtract from its gradient.

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


class UnitKernels(Protocol):
    """What every backend computes: the unit, forward and backward.

    Feature maps and their gradients have the block's data type, statistics and sums its accumulation type;
    parameters come in their own type, and their gradients go in it.
    """

    def advise_huge_pages(self, *buffers: Tensor) -> None:
        """Prepare fresh memory that is going to be written as a whole."""
        ...

    def statistics(self, x: Tensor) -> Moments:
        """Per-channel mean and variance of P x C."""
        ...

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, and return its moments if asked to."""
        ...

    def backward(
        self,
        unit: Unit,
        gradient: Tensor,
        correction: BatchNormGradCorrection | None,
        x_gradient: Tensor,
        *,
        accumulate: bool,
        sums: Tensor | None,
    ) -> UnitParameters:
        """Send the gradient of the result, Q x M, through the unit; return those of its parameters.

        Args:
            unit: as in the forward pass.
            gradient: with respect to the result; corrected on the way in.
            correction: what it is corrected by; None where it is final.
            x_gradient: P x C; written, or added to with `accumulate`.
            accumulate: whether to add.
            sums: 2 x C, what the correction of x's gradient will need; added to. None where the statistics
                are constants.
        """
        ...

    def apply_correction(self, gradient: Tensor, correction: BatchNormGradCorrection, out: Tensor) -> None:
        """Write the corrected gradient, Q x M."""
        ...


class StemKernels(UnitKernels, Protocol):
    """What a backend computes that runs the stem: BN-ReLU-max pooling, 3 wide, 2 apart."""

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        """Write the maxima, and which pixel of its window each came from.

        Args:
            unit: its weight, 0 x C x *windows, has the windows' sides alone.
            out: Q x C.
            winners: Q x C of uint8.
        """
        ...

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        """Write the gradient of a stem's input, corrected, P x C; return those of its parameters."""
        ...


def unit_parameters(unit: Unit) -> UnitParameters:
    """The parameters of a unit."""
    return UnitParameters(unit.scale, unit.shift, unit.weight)


def in_types_of(parameters: UnitParameters, grads: UnitParameters) -> UnitParameters:
    """Gradients in the types of their parameters."""
    return UnitParameters(*(grad.to(own.dtype) for grad, own in zip(grads, parameters, strict=True)))


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
