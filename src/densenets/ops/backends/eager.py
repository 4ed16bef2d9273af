"""The unit of a fused execution in PyTorch's operations: for any device, and where no compiler was found.

The same memory as the native kernels' but for the temporaries of one unit; also what they are tested with.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from densenets.ops.fused.unit import Completion, Moments, Unit, UnitParameters, accumulation_type

_CONVOLUTION = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AVERAGE_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class PyTorchKernels:
    """See `Kernels`."""

    def expect(self, *buffers: Tensor) -> None:
        """Prepare fresh memory: nothing to do."""

    def statistics(self, x: Tensor) -> Moments:
        """Of the columns of P x C."""
        variance, mean = torch.var_mean(x.to(accumulation_type(x.dtype)), dim=0, correction=0)
        return Moments(mean, variance)

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, and return its moments if asked to."""
        _, images = _activation(unit)
        convolution = _CONVOLUTION[len(unit.sides)]
        result = convolution(images, unit.weight.to(images.dtype), padding=unit.weight.shape[2] // 2)
        result = result.movedim(1, -1).reshape(out.shape)
        if unit.keep is not None:
            result = result * unit.keep * unit.keep_scale
        out.copy_(result)
        return self.statistics(out) if statistics else None

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
        """Send the gradient of the result through the unit; see `Kernels`."""
        gradient = gradient.to(accumulation_type(gradient.dtype))
        gradient = gradient if completion is None else _completed(gradient, completion)
        if unit.keep is not None:
            gradient = gradient * unit.keep * unit.keep_scale
        normalised, images = _activation(unit)
        image_gradient, weight_gradient = _convolution_backward(unit, gradient, images)
        masked = image_gradient.movedim(1, -1).reshape(normalised.shape).to(normalised.dtype)
        masked = masked.masked_fill(normalised * unit.scale + unit.shift <= 0, 0)
        shift_gradient = masked.sum(dim=0)
        scale_gradient = (masked * normalised).sum(dim=0)
        inverse = torch.rsqrt(unit.moments.variance + unit.epsilon)
        factor = unit.scale * inverse
        x_gradient.copy_(masked * factor + x_gradient if accumulate else masked * factor)
        if sums is not None:
            sums[0].add_(factor * shift_gradient)
            sums[1].add_(factor * inverse * scale_gradient)
        weight_gradient = weight_gradient.to(unit.weight.dtype).contiguous()
        return UnitParameters(scale_gradient, shift_gradient, weight_gradient)

    def complete(self, gradient: Tensor, completion: Completion, out: Tensor) -> None:
        """Write the completed gradient, Q x M."""
        out.copy_(_completed(gradient, completion))


def _activation(unit: Unit) -> tuple[Tensor, Tensor]:
    """The normalised input before scale and shift, P x C in the accumulation type, and what is convolved.

    That is ReLU's result, perhaps pooled: N x C x *sides, or half of them, in x's type.
    """
    inverse = torch.rsqrt(unit.moments.variance + unit.epsilon)
    normalised = (unit.x - unit.moments.mean) * inverse
    active = torch.relu(normalised * unit.scale + unit.shift)
    images = active.view(unit.batch, *unit.sides, -1).movedim(-1, 1)
    images = _AVERAGE_POOL[len(unit.sides)](images, 2) if unit.pool else images
    return normalised, images.to(unit.x.dtype)


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
    """Gradient of what was pooled: an equal share for every pixel, none for the last one of an odd side."""
    shares = functional.interpolate(gradient, scale_factor=2, mode="nearest") / 2 ** len(unit.sides)
    return functional.pad(shares, [end for side in reversed(unit.sides) for end in (0, side % 2)])


def _completed(gradient: Tensor, completion: Completion) -> Tensor:
    first, second = completion.sums
    return gradient - (first + (completion.result - completion.mean) * second) / completion.pixels
