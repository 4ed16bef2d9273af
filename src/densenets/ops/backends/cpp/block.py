"""Arguments of the C++ library's call that runs all layers of a dense block."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from densenets.ops.backends.block_plan import BlockPlan, BlockResult, BlockTensors
from densenets.ops.backends.cpp import interface
from densenets.ops.backends.cpp.tensors import array, arrays, check_apart, data_type, three_sides, whole
from densenets.ops.backends.unit import UnitParameters, accumulation_type, aligned_tensors


class BlockCall:
    """The arguments of one call, with the tensors that they point to.

    Args:
        result: is written; holds the block's input and, in training, the input's moments.
        tensors: that the block reads beside its input.
        plan: the block's settings.

    Attributes:
        struct: the arguments.
        grads: gradients of every unit's parameters, in the accumulation type; the backward pass writes them.
    """

    def __init__(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        self._result, self._plan = result, plan
        features = result.features
        self._dtype, self._real = features.dtype, accumulation_type(features.dtype)
        self._parameters = aligned_tensors([p for unit in tensors.parameters for p in unit], self._real)
        self._running_statistics = aligned_tensors(
            [s for moments in tensors.running for s in moments], self._real
        )
        self._dropout_masks = tensors.dropout_masks
        self.grads: list[UnitParameters] = []
        batch, *sides, self._channels = features.shape
        self._pixels, self._width = batch * math.prod(sides), result.bottlenecks.shape[2]
        layers = len(self._parameters) // (3 * plan.layer_units)
        self.struct = interface.Block(
            data_type=data_type(self._dtype),
            threads=torch.get_num_threads(),
            batch=batch,
            sides=three_sides(sides),
            units=plan.layer_units,
            layers=layers,
            in_channels=self._parameters[0].shape[0],
            channels=self._channels,
            dropout_scale=plan.dropout_scale,
            features=array(features, self._dtype, features.shape),
            keep_bottlenecks=len(result.bottlenecks) > 0,
        )
        self._units = interface.block_units(self._describe_units())
        self.struct.parts = ctypes.cast(self._units, ctypes.POINTER(interface.BlockUnit))
        if plan.training:
            self.struct.feature_moments = array(result.feature_moments, self._real, (2, self._channels))
            if plan.layer_units == 2:
                shape = (layers, 2, self._width)
                self.struct.bottleneck_moments = array(result.bottleneck_moments, self._real, shape)

    def prepare_forward(self) -> Sequence[Tensor]:
        """Set the addresses of the results; return fresh memory that the call will write."""
        self._bottlenecks, fresh = self._place_bottlenecks()
        self._check_apart(self._bottlenecks)
        return fresh

    def prepare_backward(self, gradients: Tensor, sums: Tensor) -> Sequence[Tensor]:
        """Set the addresses of all gradients; return fresh memory that the call will write."""
        self.grads = [
            UnitParameters(*(torch.empty_like(parameter) for parameter in self._parameters[i : i + 3]))
            for i in range(0, len(self._parameters), 3)
        ]
        for unit, (scale, shift, weight) in zip(self._units, self.grads, strict=True):
            unit.scale_gradient = array(scale, self._real, scale.shape)
            unit.shift_gradient = array(shift, self._real, scale.shape)
            unit.weight_gradient = array(weight, self._real, weight.shape)
        self._bottlenecks, fresh = self._place_bottlenecks()
        self._bottleneck_gradient = self._fresh_bottleneck()
        self._bottleneck_sums = sums.new_empty((2, self._width))
        struct = self.struct
        struct.gradients = array(gradients, self._dtype, (self._pixels, self._channels))
        struct.bottleneck_gradient = array(
            self._bottleneck_gradient, self._dtype, (self._pixels, self._width)
        )
        struct.bottleneck_sums = array(self._bottleneck_sums, self._real, (2, self._width))
        if self._plan.training:
            struct.sums = array(sums, self._real, (2, self._channels))
        self._check_apart(self._bottlenecks, gradients, self._bottleneck_gradient)
        return [*fresh, self._bottleneck_gradient]

    def _describe_units(self) -> Iterator[tuple[Any, ...]]:
        """Yield the fields of each unit's struct; those of gradients are 0, `prepare_backward` sets them."""
        layer_units, channels, real = self._plan.layer_units, self.struct.in_channels, self._real
        parameters, running, masks = self._parameters, self._running_statistics, self._dropout_masks
        for index in range(len(parameters) // 3):
            scale, shift, weight = parameters[3 * index : 3 * index + 3]
            out_channels, _, *kernel = weight.shape
            in_channels = channels if index % layer_units == 0 else self._width
            vectors = arrays((scale, shift, *running[2 * index : 2 * index + 2]), real, (in_channels,))
            yield (
                *three_sides(kernel),
                out_channels,
                self._plan.epsilons[index],
                *vectors[:2],
                array(weight, real, (out_channels, in_channels, *kernel)),
                *(vectors[2:] or (0, 0)),
                array(masks[index], torch.uint8, (self._pixels, out_channels)) if masks else 0,
                *(0, 0, 0),
            )
            if index % layer_units == layer_units - 1:
                channels += out_channels

    def _place_bottlenecks(self) -> tuple[Tensor, list[Tensor]]:
        """Memory for all layers' bottlenecks, L x P x B, or one in turn, P x B; and the fresh part of it."""
        stored, one = self._result.bottlenecks, (self._pixels, self._width)
        if len(stored):
            self.struct.bottlenecks = array(stored, self._dtype, (self.struct.layers, *one))
            return stored, []
        fresh = self._fresh_bottleneck()
        self.struct.bottlenecks = array(fresh, self._dtype, one)
        return fresh, [fresh]

    def _fresh_bottleneck(self) -> Tensor:
        return self._result.features.new_empty(self._result.bottlenecks.shape[1:])

    def _check_apart(self, *buffers: Tensor) -> None:
        places = [whole(buffer) for buffer in (self._result.features, *buffers)]
        for index, place in enumerate(places):
            check_apart(place, *places[:index])
