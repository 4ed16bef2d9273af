"""The unit that fused blocks are made of, BN-ReLU-convolution, and the kernels that a backend has for it.

Feature maps are matrices in channels-last form: P pixels (batch and sides flattened) x channels, so that a
unit reads the first columns of the block's shared buffer and writes its own behind them.

Shapes: P pixels of the input, Q of the output, C channels of the input, M of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter


class Moments(NamedTuple):
    """Mean and (biased) variance of each channel, both C."""

    mean: Tensor
    variance: Tensor


class UnitParameters(NamedTuple):
    """Parameters of a unit, or their gradients: gamma and beta (C) and the weight (M x C x *kernel)."""

    scale: Tensor
    shift: Tensor
    weight: Tensor


@dataclass(frozen=True, kw_only=True)
class Unit:
    """BN-ReLU-convolution, optionally with average pooling before the convolution and dropout behind it.

    Attributes:
        x: the input, P x C, a view of the first columns of a matrix.
        batch: number of images.
        sides: of an image in x, in pixels; one, two or three.
        moments: mean and variance to normalise by, the batch's or running; of any floating-point type.
        scale: C; gamma, of any floating-point type.
        shift: C; beta.
        epsilon: added to the variance.
        weight: M x C x *kernel, the kernel's sides all 1 or all 3; of any floating-point type.
        pool: average 2 x 2 (x 2) pixels of ReLU's result; exact where a kernel of side 1 follows, because
            the two commute, at a quarter of the multiply-adds.
        dropout_mask: Q x M of uint8, 1 where dropout keeps a value; None without dropout.
        dropout_scale: factor of the values that dropout keeps.
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
        """Q, the number of pixels of the output over the batch."""
        pixels = self.batch
        for side in self.sides:
            pixels *= side // 2 if self.pool else side
        return pixels


class BatchNormGradCorrection(NamedTuple):
    """The terms that batch normalisations with batch statistics subtract from the gradient of their input.

    They need sums over all pixels, and over all batch normalisations that read the channels, so they are
    subtracted last: gradient - (sums[0] + (result - mean) sums[1]) / pixels.

    Attributes:
        result: Q x M, the input of these batch normalisations, a unit's result.
        mean: M, of the batch.
        sums: 2 x M, over all batch normalisations that read the result.
        pixels: number of pixels of the statistics.
    """

    result: Tensor
    mean: Tensor
    sums: Tensor
    pixels: float


class UnitKernels(Protocol):
    """The kernels that every backend has: the unit, forward and backward.

    Feature maps and their gradients have the block's data type, statistics and sums its accumulation type;
    parameters and their gradients have the parameters' own type.
    """

    def advise_huge_pages(self, *buffers: Tensor) -> None:
        """Advise the system to back fresh memory, which is about to be written, with huge pages."""
        ...

    def statistics(self, x: Tensor) -> Moments:
        """Per-channel mean and variance of P x C."""
        ...

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, to `out`; return its moments if `statistics`."""
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
        """Backward pass of the unit: write the gradient of x, and return the gradients of the parameters.

        Args:
            unit: as in the forward pass.
            gradient: with respect to the result, Q x M; `correction` is applied to it first.
            correction: of `gradient`; None where it needs none.
            x_gradient: P x C; written, or added to with `accumulate`.
            accumulate: whether to add to `x_gradient`.
            sums: 2 x C, added to: the sums for the correction of x's gradient. None where the statistics are
                constants.
        """
        ...

    def apply_correction(self, gradient: Tensor, correction: BatchNormGradCorrection, out: Tensor) -> None:
        """Write the corrected gradient, Q x M, to `out`."""
        ...


class StemKernels(UnitKernels, Protocol):
    """The kernels of a backend that runs the stem: BN-ReLU-max pooling, kernel 3, stride 2."""

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        """Write the maxima, and the place of each in its window.

        Args:
            unit: its weight, 0 x C x *windows, only gives the windows' sides.
            out: Q x C.
            winners: Q x C of uint8, the maxima's places.
        """
        ...

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        """Write the corrected gradient of a stem's input, P x C; return the gradients of the parameters."""
        ...


def unit_parameters(unit: Unit) -> UnitParameters:
    """Scale, shift and weight of a unit."""
    return UnitParameters(unit.scale, unit.shift, unit.weight)


def in_parameter_types(parameters: UnitParameters, grads: UnitParameters) -> UnitParameters:
    """Gradients in the data types of their parameters."""
    return UnitParameters(
        *(grad.to(parameter.dtype) for grad, parameter in zip(grads, parameters, strict=True))
    )


def accumulation_type(dtype: torch.dtype) -> torch.dtype:
    """The data type of sums, statistics and parameters' gradients: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def compute_type(tensor: Tensor) -> torch.dtype:
    """The data type to compute in for a tensor: its own, or autocast's, which leaves float64 alone."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def as_matrix(x: Tensor) -> Tensor:
    """Reshape N x C x *sides to P x C: a view where x is in channels-last form, else a copy."""
    return x.movedim(1, -1).contiguous().view(-1, x.shape[1])


def aligned_tensors(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Parameters as kernels read them: of this data type, contiguous and aligned; others are copied.

    Weights that are mapped from a file may begin anywhere. There are hundreds of them, and almost always they
    need no copy, so little is done for each.
    """
    # Traced tensors have no address.
    if not tensors or type(tensors[0]) not in (Tensor, Parameter) or tensors[0].is_meta:
        return [t if t.dtype == dtype and t.is_contiguous() else t.to(dtype).contiguous() for t in tensors]
    size = dtype.itemsize
    return [
        t
        if t.dtype == dtype and t.is_contiguous() and not t.data_ptr() % size
        else t.to(dtype, copy=True).contiguous()
        for t in tensors
    ]
