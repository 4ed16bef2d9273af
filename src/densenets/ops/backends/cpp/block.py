"""A fused dense block by the native library: all its layers in one call."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from densenets.ops.backends.cpp import interface
from densenets.ops.backends.cpp.kernels import NativeKernels, three_sides
from densenets.ops.backends.cpp.tensors import array, arrays, check_apart, data_type, whole
from densenets.ops.fused.plan import BlockPlan, BlockResult, BlockTensors
from densenets.ops.fused.unit import UnitParameters, accumulation_type


class NativeBlock:
    """The arguments of a call; they hold addresses, so the tensors must outlive it.

    Args:
        result: where the features are, and in training the moments of the block's input.
        tensors: what the block reads beside its input.
        plan: what it computes.
    """

    def __init__(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        self._result, self._tensors, self._plan = result, tensors, plan
        features = result.features
        self._dtype, self._real = features.dtype, accumulation_type(features.dtype)
        batch, *sides, self._channels = features.shape
        self._pixels, self._width = batch * math.prod(sides), result.bottlenecks.shape[2]
        made = [parameters.weight.shape[0] for parameters in tensors.parameters[plan.units - 1 :: plan.units]]
        self._call = interface.Block(
            data_type=data_type(self._dtype),
            threads=torch.get_num_threads(),
            batch=batch,
            sides=three_sides(sides),
            units=plan.units,
            layers=len(made),
            in_channels=self._channels - sum(made),
            channels=self._channels,
            keep_scale=1 / (1 - plan.drop),
            features=array(features, self._dtype, features.shape),
            keep_bottlenecks=len(result.bottlenecks) > 0,
        )
        self._parts = interface.block_units(self._describe_units())
        self._call.parts = ctypes.cast(self._parts, ctypes.POINTER(interface.BlockUnit))
        if plan.training:
            moments, of_bottlenecks = result.feature_moments, result.bottleneck_moments
            self._call.feature_moments = array(moments, self._real, (2, self._channels))
            if plan.units == 2:
                shape = (len(made), 2, self._width)
                self._call.bottleneck_moments = array(of_bottlenecks, self._real, shape)

    def forward(self, kernels: NativeKernels) -> None:
        """Write features, bottlenecks and moments of all layers."""
        bottlenecks = self._bottlenecks(kernels)
        self._call.bottlenecks = self._address_of_bottlenecks(bottlenecks)
        self._check_apart(bottlenecks)
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
            part.scale_gradient = array(scale, self._real, scale.shape)
            part.shift_gradient = array(shift, self._real, scale.shape)
            part.weight_gradient = array(weight, self._real, weight.shape)
        bottleneck_gradient = self._bottleneck(kernels)
        bottleneck_sums = sums.new_empty((2, self._width))
        call = self._call
        call.bottlenecks = self._address_of_bottlenecks(bottlenecks)
        call.gradients = array(gradients, self._dtype, (self._pixels, self._channels))
        call.bottleneck_gradient = array(bottleneck_gradient, self._dtype, (self._pixels, self._width))
        call.bottleneck_sums = array(bottleneck_sums, self._real, (2, self._width))
        if self._plan.training:
            call.sums = array(sums, self._real, (2, self._channels))
        self._check_apart(bottlenecks, gradients, bottleneck_gradient)
        kernels.block_backward(call)
        return found

    def _describe_units(self) -> Iterator[tuple[Any, ...]]:
        """The fields of each unit's struct; the gradients' are the backward pass's."""
        units, channels, real = self._plan.units, self._call.in_channels, self._real
        running, keep = self._tensors.running, self._tensors.keep
        for index, (scale, shift, weight) in enumerate(self._tensors.parameters):
            made, _, *kernel = weight.shape
            read = channels if index % units == 0 else self._width
            vectors = arrays((scale, shift, *(running[index] if running else ())), real, (read,))
            yield (
                *three_sides(kernel),
                made,
                self._plan.epsilons[index],
                *vectors[:2],
                array(weight, real, (made, read, *kernel)),
                *(vectors[2:] or (0, 0)),
                array(keep[index], torch.uint8, (self._pixels, made)) if keep else 0,
                *(0, 0, 0),
            )
            if index % units == units - 1:
                channels += made

    def _address_of_bottlenecks(self, bottlenecks: Tensor) -> int:
        kept = self._call.keep_bottlenecks
        shape = (self._call.layers, self._pixels, self._width) if kept else (self._pixels, self._width)
        return array(bottlenecks, self._dtype, shape)

    def _check_apart(self, *buffers: Tensor) -> None:
        places = [whole(buffer) for buffer in (self._result.features, *buffers)]
        for index, place in enumerate(places):
            check_apart(place, *places[:index])

    def _bottlenecks(self, kernels: NativeKernels) -> Tensor:
        """Where the bottlenecks of all layers are, L x P x B, or where each goes in turn, P x B."""
        kept = self._result.bottlenecks
        return kept if len(kept) else self._bottleneck(kernels)

    def _bottleneck(self, kernels: NativeKernels) -> Tensor:
        """Fresh memory for one bottleneck, P x B."""
        buffer = self._result.features.new_empty(self._result.bottlenecks.shape[1:])
        kernels.expect(buffer)
        return buffer
