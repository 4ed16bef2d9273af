"""A fused dense block by the native library: all its layers in one call."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from densenets.ops.block_plan import BlockPlan, BlockResult, BlockTensors
from densenets.ops.kernels import UnitParameters
from densenets.ops.native import library
from densenets.ops.native.kernels import DATA_TYPES, NativeKernels, three_sides


class NativeBlock:
    """The arguments of a call; they hold addresses, so the tensors must outlive it.

    Args:
        result: where the features are, and in training the moments of the block's input.
        tensors: what the block reads beside its input.
        plan: what it computes.
    """

    def __init__(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        self._result, self._tensors, self._plan = result, tensors, plan
        self._parts = (library.BlockUnit * len(tensors.parameters))()
        for index, part in enumerate(self._parts):
            self._describe_unit(part, index)
        made = [parameters.weight.shape[0] for parameters in tensors.parameters]
        batch, *sides, channels = result.features.shape
        self._call = library.Block(
            data_type=DATA_TYPES[result.features.dtype],
            threads=torch.get_num_threads(),
            batch=batch,
            sides=three_sides(sides),
            units=plan.units,
            layers=len(made) // plan.units,
            in_channels=channels - sum(made[plan.units - 1 :: plan.units]),
            channels=channels,
            keep_scale=1 / (1 - plan.drop),
            parts=ctypes.cast(self._parts, ctypes.POINTER(library.BlockUnit)),
            features=result.features.data_ptr(),
            keep_bottlenecks=len(result.bottlenecks) > 0,
        )
        if plan.training:
            self._call.feature_moments = result.feature_moments.data_ptr()
            self._call.bottleneck_moments = result.bottleneck_moments.data_ptr()

    def forward(self, kernels: NativeKernels) -> None:
        """Write features, bottlenecks and moments of all layers."""
        bottlenecks = self._bottlenecks(kernels)
        self._call.bottlenecks = bottlenecks.data_ptr()
        kernels.block_forward(self._call)

    def backward(self, kernels: NativeKernels, gradients: Tensor, sums: Tensor) -> list[UnitParameters]:
        """Send the gradient of the features through all layers.

        Args:
            kernels: what computes.
            gradients: P x channels; the columns of the block's input are left to be completed.
            sums: 2 x channels, what the completions need; added to.
        """
        bottlenecks = self._bottlenecks(kernels)
        found = [
            UnitParameters(*(torch.empty_like(parameter) for parameter in parameters))
            for parameters in self._tensors.parameters
        ]
        for part, (scale, shift, weight) in zip(self._parts, found, strict=True):
            part.scale_gradient, part.shift_gradient = scale.data_ptr(), shift.data_ptr()
            part.weight_gradient = weight.data_ptr()
        bottleneck_gradient = self._bottleneck(kernels)
        bottleneck_sums = sums.new_empty((2, bottleneck_gradient.shape[1]))
        call = self._call
        call.bottlenecks, call.gradients = bottlenecks.data_ptr(), gradients.data_ptr()
        call.bottleneck_gradient = bottleneck_gradient.data_ptr()
        call.bottleneck_sums = bottleneck_sums.data_ptr()
        call.sums = sums.data_ptr() if self._plan.training else None
        kernels.block_backward(call)
        return found

    def _describe_unit(self, part: library.BlockUnit, index: int) -> None:
        scale, shift, weight = self._tensors.parameters[index]
        part.taps, part.out_channels = three_sides(weight.shape[2:]), weight.shape[0]
        part.epsilon = self._plan.epsilons[index]
        part.scale, part.shift, part.weight = scale.data_ptr(), shift.data_ptr(), weight.data_ptr()
        if self._tensors.running:
            mean, variance = self._tensors.running[index]
            part.mean, part.variance = mean.data_ptr(), variance.data_ptr()
        if self._tensors.keep:
            part.keep = self._tensors.keep[index].data_ptr()

    def _bottlenecks(self, kernels: NativeKernels) -> Tensor:
        """Where the bottlenecks of all layers are, L x P x B, or where each goes in turn, P x B."""
        kept = self._result.bottlenecks
        return kept if len(kept) else self._bottleneck(kernels)

    def _bottleneck(self, kernels: NativeKernels) -> Tensor:
        """Fresh memory for one bottleneck, P x B."""
        buffer = self._result.features.new_empty(self._result.bottlenecks.shape[1:])
        kernels.expect(buffer)
        return buffer
