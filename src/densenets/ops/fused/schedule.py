"""The fused dense block: which unit runs when, on which part of which buffer.

All layers of a block normalise the same feature maps, so a channel's batch statistics are taken once, when it
is made. A layer reads the first columns of one shared buffer and writes its k behind them; nothing is
concatenated. In the backward pass a channel's gradient is the sum over its consumers, accumulated in one
buffer; the two corrections that batch normalisation takes from it need sums over all consumers, and are
made once, when its maker reads it. The transition behind the block is the last of them.

Kept for the backward pass: the buffer, and each layer's bottleneck maps (or nothing: they are made again).

Shapes: P pixels (batch and sides flattened), C0 channels of the block's input, k growth rate, L layers,
B channels of a bottleneck.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeGuard

import torch
from torch import Tensor

from densenets.ops.backends.cpp.block import NativeBlock
from densenets.ops.backends.cpp.kernels import NativeKernels
from densenets.ops.fused.plan import BlockPlan, BlockResult, BlockTensors, empty_result
from densenets.ops.fused.ranks import Ranks
from densenets.ops.fused.transition import empty_gradient, transition_unit
from densenets.ops.fused.unit import Completion, Kernels, Moments, Unit, UnitParameters, as_matrix


def block_forward(
    x: Tensor, tensors: BlockTensors, plan: BlockPlan, kernels: Kernels, *, keep_bottlenecks: bool
) -> BlockResult:
    """Run a block on N x C0 x *sides."""
    result = empty_result(x, tensors, plan, keep_bottlenecks=keep_bottlenecks)
    kernels.expect(result.features, result.bottlenecks)
    channels = x.shape[1]
    result.features[..., :channels].copy_(x.movedim(1, -1))
    run = _BlockRun(result, tensors, plan, kernels)
    if plan.training:
        run.note_moments(0, channels, kernels.statistics(run.matrix[:, :channels]))
    if _in_one_call(kernels, plan):
        NativeBlock(result, tensors, plan).forward(kernels)
    else:
        for layer in range(len(tensors.parameters) // plan.units):
            channels = run.layer_forward(layer, channels)
    if (unit := run.transition_unit()) is not None:
        kernels.forward(unit, result.reduced.view(-1, result.reduced.shape[-1]), statistics=False)
    return result


def block_backward(
    gradient: Tensor | None,
    reduced_gradient: Tensor | None,
    result: BlockResult,
    tensors: BlockTensors,
    plan: BlockPlan,
    kernels: Kernels,
) -> tuple[Tensor, list[UnitParameters]]:
    """Gradients of a block's input, N x C0 x *sides, and of every unit's parameters, the transition's last.

    Args:
        gradient: with respect to the block's features, N x (C0 + L k) x *sides; left as it is.
        reduced_gradient: with respect to the transition's result. One of the two may be missing, this one
            where there is no transition.
        result: of the forward pass; `reduced` isn't read.
        tensors: as in the forward pass.
        plan: as in the forward pass.
        kernels: what computes.
    """
    run = _BlockRun(result, tensors, plan, kernels)
    sums = torch.zeros_like(result.feature_moments)
    matrix, of_transition = run.last_gradients(gradient, reduced_gradient, sums)
    if _in_one_call(kernels, plan):
        found = NativeBlock(result, tensors, plan).backward(kernels, matrix, sums)
    else:
        found = run.backward(matrix, sums)
    made = sum(parameters.weight.shape[0] for parameters in tensors.parameters[plan.units - 1 :: plan.units])
    end = matrix.shape[1] - made
    x_gradient = result.features.new_empty((*result.features.shape[:-1], end))
    run.complete(matrix[:, :end], run.completion(0, end, sums), x_gradient.view(-1, end))
    return x_gradient.movedim(-1, 1), found + of_transition


def _in_one_call(kernels: Kernels, plan: BlockPlan) -> TypeGuard[NativeKernels]:
    """Whether the native library runs all layers by itself: nobody has to be asked between two of them."""
    return type(kernels) is NativeKernels and not (plan.training and plan.synchronized)


class _BlockRun:
    """A pass through a block: its buffer as a matrix, its units, its statistics over all ranks."""

    def __init__(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan, kernels: Kernels) -> None:
        self.result, self.tensors, self.plan, self.kernels = result, tensors, plan, kernels
        self.batch, *sides, channels = result.features.shape
        self.sides = tuple(sides)
        self.matrix = result.features.view(-1, channels)
        self.ranks = Ranks(self.matrix, synchronized=plan.training and plan.synchronized)

    @cached_property
    def bottleneck_gradient(self) -> Tensor:
        """Where every layer's gradient of its bottleneck goes in turn, P x B."""
        return self._buffer()

    @cached_property
    def spare(self) -> Tensor:
        """Where every layer's bottleneck goes in turn if they are not kept, P x B."""
        return self._buffer()

    def _buffer(self) -> Tensor:
        buffer = self.matrix.new_empty(self.result.bottlenecks.shape[1:])
        self.kernels.expect(buffer)
        return buffer

    def unit(self, index: int, x: Tensor, moments: Moments | None) -> Unit:
        """A unit of the block; in evaluation it has moments of its own."""
        tensors, parameters = self.tensors, self.tensors.parameters[index]
        return Unit(
            x=x,
            batch=self.batch,
            sides=self.sides,
            moments=moments if moments is not None else tensors.running[index],
            scale=parameters.scale,
            shift=parameters.shift,
            epsilon=self.plan.epsilons[index],
            weight=parameters.weight,
            keep=tensors.keep[index] if tensors.keep else None,
            keep_scale=1 / (1 - self.plan.drop),
        )

    def feature_unit(self, layer: int, channels: int) -> Unit:
        """The layer's first unit, which reads the first columns of the buffer."""
        moments = Moments(*self.result.feature_moments[:, :channels]) if self.plan.training else None
        return self.unit(layer * self.plan.units, self.matrix[:, :channels], moments)

    def bottleneck_unit(self, layer: int) -> Unit:
        """The layer's second unit, which reads its bottleneck."""
        moments = Moments(*self.result.bottleneck_moments[layer]) if self.plan.training else None
        return self.unit(layer * 2 + 1, self.bottleneck(layer), moments)

    def bottleneck(self, layer: int) -> Tensor:
        """Where the layer's bottleneck maps are, P x B."""
        return self.result.bottlenecks[layer] if len(self.result.bottlenecks) else self.spare

    def note_moments(self, start: int, end: int, moments: Moments | None) -> None:
        """Keep the statistics of some channels, over all ranks."""
        if moments is not None:
            torch.stack(self.ranks.moments(moments), out=self.result.feature_moments[:, start:end])

    def layer_forward(self, layer: int, channels: int) -> int:
        """Run a layer on the first columns of the buffer; returns how many there are now."""
        kernels, training = self.kernels, self.plan.training
        unit = self.feature_unit(layer, channels)
        if self.plan.units == 2:
            moments = kernels.forward(unit, self.bottleneck(layer), statistics=training)
            if moments is not None:
                torch.stack(self.ranks.moments(moments), out=self.result.bottleneck_moments[layer])
            unit = self.bottleneck_unit(layer)
        end = channels + unit.weight.shape[0]
        moments = kernels.forward(unit, self.matrix[:, channels:end], statistics=training)
        self.note_moments(channels, end, moments)
        return end

    def transition_unit(self) -> Unit | None:
        """The transition's unit, which reads the whole buffer; None where there is none."""
        plan, parameters, running = (
            self.plan.transition,
            self.tensors.transition,
            self.tensors.transition_running,
        )
        if plan is None or parameters is None:
            return None
        moments = Moments(*self.result.feature_moments) if running is None else running
        return transition_unit(self.result.features.shape, self.matrix, moments, parameters, plan)

    def last_gradients(
        self, gradient: Tensor | None, reduced_gradient: Tensor | None, sums: Tensor
    ) -> tuple[Tensor, list[UnitParameters]]:
        """The buffer of gradients, P x channels, with all that comes from behind the block's layers.

        Returns it and the gradients of the transition's parameters, if there is one; adds to `sums`.
        """
        unit = self.transition_unit()
        if unit is None or reduced_gradient is None:
            assert gradient is not None
            matrix = torch.empty_like(self.matrix)
            self.kernels.expect(matrix)
            matrix.view_as(self.result.features).copy_(gradient.movedim(1, -1))
            return matrix, []
        matrix = empty_gradient(unit, self.kernels)
        if gradient is not None:
            matrix.view_as(self.result.features).copy_(gradient.movedim(1, -1))
        found = self.kernels.backward(
            unit,
            as_matrix(reduced_gradient),
            None,
            matrix,
            accumulate=gradient is not None,
            sums=sums if self.plan.training else None,
        )
        return matrix, [found]

    def backward(self, gradients: Tensor, sums: Tensor) -> list[UnitParameters]:
        """Send the gradient of the block's output, P x channels, to its input's columns, layer by layer."""
        found: list[UnitParameters] = []
        end, units = gradients.shape[1], self.plan.units
        for layer in reversed(range(len(self.tensors.parameters) // units)):
            start = end - self.tensors.parameters[layer * units + units - 1].weight.shape[0]
            found = self.layer_backward(layer, start, end, gradients, sums) + found
            end = start
        return found

    def layer_backward(
        self, layer: int, start: int, end: int, gradients: Tensor, sums: Tensor
    ) -> list[UnitParameters]:
        """Send the gradient of columns start ... end, which a layer made, to the columns before them."""
        unit, training = self.feature_unit(layer, start), self.plan.training
        made, missing = gradients[:, start:end], self.completion(start, end, sums)
        found: list[UnitParameters] = []
        if self.plan.units == 2:
            if not len(self.result.bottlenecks):
                self.kernels.forward(unit, self.spare, statistics=False)
            second = self.bottleneck_unit(layer)
            second_sums = torch.zeros_like(torch.stack(second.moments)) if training else None
            found.append(
                self.kernels.backward(
                    second, made, missing, self.bottleneck_gradient, accumulate=False, sums=second_sums
                )
            )
            made, missing = self.bottleneck_gradient, None
            if second_sums is not None:
                missing = self.ranks.completion(second.x, second.moments.mean, second_sums)
        first = self.kernels.backward(
            unit,
            made,
            missing,
            gradients[:, :start],
            accumulate=True,
            sums=sums[:, :start] if training else None,
        )
        return [first, *found]

    def completion(self, start: int, end: int, sums: Tensor) -> Completion | None:
        """What the gradient of some columns of the buffer lacks; None where statistics are constants."""
        if not self.plan.training:
            return None
        mean = self.result.feature_moments[0, start:end]
        return self.ranks.completion(self.matrix[:, start:end], mean, sums[:, start:end])

    def complete(self, gradient: Tensor, completion: Completion | None, out: Tensor) -> None:
        """Write the completed gradient."""
        if completion is None:
            out.copy_(gradient)
        else:
            self.kernels.complete(gradient, completion, out)
