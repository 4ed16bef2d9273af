"""The unit's kernels in PyTorch's operations: for any device, and the reference of the other backends' tests.

It needs as much memory as the C++ kernels and the temporaries of one unit.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from densenets.ops.backends.unit import (
    BatchNormGradCorrection,
    Moments,
    Unit,
    UnitParameters,
    accumulation_type,
)

_CONVOLUTION = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AVERAGE_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class EagerKernels:
    """The unit by PyTorch's operations; see `UnitKernels`."""

    def advise_huge_pages(self, *buffers: Tensor) -> None:
        """Do nothing; see `UnitKernels`."""

    def statistics(self, x: Tensor) -> Moments:
        """Per-channel mean and variance of P x C."""
        variance, mean = torch.var_mean(x.to(accumulation_type(x.dtype)), dim=0, correction=0)
        return Moments(mean, variance)

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, to `out`; return its moments if `statistics`."""
        _, images = _activation(unit)
        convolution = _CONVOLUTION[len(unit.sides)]
        result = convolution(images, unit.weight.to(images.dtype), padding=unit.weight.shape[2] // 2)
        result = result.movedim(1, -1).reshape(out.shape)
        if unit.dropout_mask is not None:
            result = result * unit.dropout_mask * unit.dropout_scale
        out.copy_(result)
        return self.statistics(out) if statistics else None

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
        """Backward pass of the unit; see `UnitKernels`."""
        gradient = gradient.to(accumulation_type(gradient.dtype))
        gradient = gradient if correction is None else _corrected(gradient, correction)
        if unit.dropout_mask is not None:
            gradient = gradient * unit.dropout_mask * unit.dropout_scale
        scale, shift, moments = _in_accumulation_type(unit)
        normalised, images = _activation(unit)
        image_gradient, weight_gradient = _convolution_backward(unit, gradient, images)
        masked = image_gradient.movedim(1, -1).reshape(normalised.shape).to(normalised.dtype)
        masked = masked.masked_fill(normalised * scale + shift <= 0, 0)
        shift_gradient = masked.sum(dim=0)
        scale_gradient = (masked * normalised).sum(dim=0)
        inverse = torch.rsqrt(moments.variance + unit.epsilon)
        factor = scale * inverse
        x_gradient.copy_(masked * factor + x_gradient if accumulate else masked * factor)
        if sums is not None:
            sums[0].add_(factor * shift_gradient)
            sums[1].add_(factor * inverse * scale_gradient)
        return UnitParameters(
            scale_gradient.to(unit.scale.dtype),
            shift_gradient.to(unit.shift.dtype),
            weight_gradient.to(unit.weight.dtype).contiguous(),
        )

    def apply_correction(self, gradient: Tensor, correction: BatchNormGradCorrection, out: Tensor) -> None:
        """Write the corrected gradient, Q x M, to `out`."""
        out.copy_(_corrected(gradient, correction))


def _activation(unit: Unit) -> tuple[Tensor, Tensor]:
    """The normalised input before scale and shift, and the convolution's input.

    The first is P x C in the accumulation type; the second is ReLU's result, pooled if the unit pools,
    N x C x *sides (or half of them) in x's type.
    """
    scale, shift, moments = _in_accumulation_type(unit)
    normalised = (unit.x - moments.mean) * torch.rsqrt(moments.variance + unit.epsilon)
    active = torch.relu(normalised * scale + shift)
    images = active.view(unit.batch, *unit.sides, -1).movedim(-1, 1)
    images = _AVERAGE_POOL[len(unit.sides)](images, 2) if unit.pool else images
    return normalised, images.to(unit.x.dtype)


def _in_accumulation_type(unit: Unit) -> tuple[Tensor, Tensor, Moments]:
    """Scale, shift and moments of a unit, in the accumulation type."""
    dtype = accumulation_type(unit.x.dtype)
    mean, variance = unit.moments
    return unit.scale.to(dtype), unit.shift.to(dtype), Moments(mean.to(dtype), variance.to(dtype))


def _convolution_backward(unit: Unit, gradient: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ReLU's result, N x C x *sides, and of the weight; an operator has no autograd inside."""
    dims = len(unit.sides)
    pooled_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
        gradient.to(images.dtype).view(unit.batch, *images.shape[2:], -1).movedim(-1, 1),
        images,
        unit.weight.to(images.dtype),
        bias_sizes=None,
        stride=[1] * dims,
        padding=[unit.weight.shape[2] // 2] * dims,
        dilation=[1] * dims,
        transposed=False,
        output_padding=[0] * dims,
        groups=1,
        output_mask=[True, True, False],
    )
    return _unpooled(unit, pooled_gradient) if unit.pool else pooled_gradient, weight_gradient


def _unpooled(unit: Unit, gradient: Tensor) -> Tensor:
    """Gradient of average pooling: an equal share for every pixel, none for the last one of an odd side."""
    shares = functional.interpolate(gradient, scale_factor=2, mode="nearest") / 2 ** len(unit.sides)
    return functional.pad(shares, [end for side in reversed(unit.sides) for end in (0, side % 2)])


def _corrected(gradient: Tensor, correction: BatchNormGradCorrection) -> Tensor:
    first, second = correction.sums
    return gradient - (first + (correction.result - correction.mean) * second) / correction.pixels
