"""The fused dense block: the order of its units, and the columns of one buffer that each reads and writes.

All layers of a block normalise the same feature maps, so a channel's batch statistics are computed once,
when it is written. A layer reads the first columns of one shared buffer and writes its k behind them;
nothing is concatenated. In the backward pass a channel's gradient is the sum over the layers that read it,
accumulated in one buffer; the two corrections that batch normalisation subtracts from it need sums over all
these layers, and are applied once, when the layer that wrote the channel reads its gradient. The transition
behind the block is one more reader.

Stored for the backward pass: the buffer, and each layer's bottleneck maps (or nothing: they are recomputed).

Shapes: P pixels (batch and sides flattened), C0 channels of the block's input, k growth rate, L layers,
B channels of a bottleneck.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from densenets.ops.backends.backend import Backend, named_backend
from densenets.ops.backends.block_plan import BlockKernels, BlockPlan, BlockResult, BlockTensors, empty_result
from densenets.ops.backends.unit import (
    BatchNormGradCorrection,
    Moments,
    Unit,
    UnitKernels,
    UnitParameters,
    as_matrix,
)
from densenets.ops.fused.ranks import GlobalBatch


def block_forward(
    x: Tensor,
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    dropout_masks: Sequence[Tensor],
    epsilons: Sequence[float],
    dropout: float,
    plan: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run a dense block, and the transition behind it if the plan has one.

    Args:
        x: the block's input, N x C0 x *sides.
        parameters: scale, shift and weight of every unit, in the order in which they run, the transition's
            last.
        running: running mean and variance of every unit in evaluation; empty in training.
        dropout_masks: of every unit of the block, P x its channels; empty without dropout.
        epsilons: of every unit's BN, the transition's last.
        dropout: probability behind each convolution of the block.
        plan: the text of a `BlockPlan`.

    Returns:
        The fields of a `BlockResult`; features and reduced maps as N x C x *sides, in channels-last form.
    """
    block_plan = BlockPlan.parse(plan, epsilons, dropout)
    tensors = BlockTensors.of_lists(parameters, running, dropout_masks, block_plan)
    backend = named_backend(block_plan.backend)
    kernels = backend.load()
    result = empty_result(x, tensors, block_plan)
    kernels.advise_huge_pages(result.features, result.bottlenecks)
    channels = x.shape[1]
    result.features[..., :channels].copy_(x.movedim(1, -1))
    run = _BlockRun(result, tensors, block_plan, kernels)
    if block_plan.training:
        run.store_moments(0, channels, kernels.statistics(run.matrix[:, :channels]))
    if _runs_in_one_call(backend, tensors, block_plan):
        cast(BlockKernels, kernels).block_forward(result, tensors, block_plan)
    else:
        for layer in range(len(tensors.parameters) // block_plan.layer_units):
            channels = run.layer_forward(layer, channels)
    if (unit := run.transition_unit()) is not None:
        kernels.forward(unit, result.reduced.view(-1, result.reduced.shape[-1]), statistics=False)
    return channels_first(result)


def block_backward(
    gradients: Sequence[Tensor | None],
    results: Sequence[Tensor],
    parameters: Sequence[Tensor],
    running: Sequence[Tensor],
    dropout_masks: Sequence[Tensor],
    epsilons: Sequence[float],
    dropout: float,
    plan: str,
) -> list[Tensor]:
    """Backward pass of `block_forward`.

    Args:
        gradients: with respect to the block's features, N x (C0 + L k) x *sides, and to the transition's
            result. One of the two may be None: the second where there is no transition.
        results: of `block_forward`, but the last, which is not read.
        parameters: as in the forward pass, like the other arguments.
        running: see there.
        dropout_masks: see there.
        epsilons: see there.
        dropout: see there.
        plan: see there.

    Returns:
        Gradients of the block's input, N x C0 x *sides, and of all parameters, in their types.
    """
    block_plan = BlockPlan.parse(plan, epsilons, dropout)
    tensors = BlockTensors.of_lists(parameters, running, dropout_masks, block_plan)
    features, bottlenecks, feature_moments, bottleneck_moments = results
    result = BlockResult(
        features.movedim(1, -1), bottlenecks, feature_moments, bottleneck_moments, features.new_empty(0)
    )
    backend = named_backend(block_plan.backend)
    kernels = backend.load()
    run = _BlockRun(result, tensors, block_plan, kernels)
    sums = torch.zeros_like(feature_moments)
    matrix, transition_grads = run.initial_gradients(gradients[0], gradients[1], sums)
    if _runs_in_one_call(backend, tensors, block_plan):
        grads = cast(BlockKernels, kernels).block_backward(result, tensors, block_plan, matrix, sums)
    else:
        grads = run.backward(matrix, sums)
    in_channels = parameters[0].shape[0]  # the first scale has one for each channel of the input
    x_gradient = result.features.new_empty((*result.features.shape[:-1], in_channels))
    run.apply_correction(
        matrix[:, :in_channels], run.correction(0, in_channels, sums), x_gradient.view(-1, in_channels)
    )
    return [x_gradient.movedim(-1, 1), *[grad for unit in [*grads, *transition_grads] for grad in unit]]


def channels_first(result: BlockResult) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of a result, with maps as N x C x *sides; `reduced` stays empty without a transition."""
    reduced = result.reduced.movedim(-1, 1) if result.reduced.dim() > 1 else result.reduced
    return (result.features.movedim(-1, 1), *result[1:-1], reduced)


def _runs_in_one_call(backend: Backend, tensors: BlockTensors, plan: BlockPlan) -> bool:
    """Whether the backend runs all layers in one call: no statistics of other ranks are needed in between."""
    asks_ranks = plan.training and plan.synchronized
    return backend.runs_block and bool(tensors.parameters) and not asks_ranks


class _BlockRun:
    """A forward or backward pass through a block: its buffer as a matrix, its units, its statistics."""

    def __init__(
        self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan, kernels: UnitKernels
    ) -> None:
        self.result, self.tensors, self.plan, self.kernels = result, tensors, plan, kernels
        self.batch, *sides, channels = result.features.shape
        self.sides = tuple(sides)
        self.matrix = result.features.view(-1, channels)
        self.global_batch = GlobalBatch(self.matrix, synchronized=plan.training and plan.synchronized)

    @cached_property
    def bottleneck_gradient(self) -> Tensor:
        """Memory for the gradient of one layer's bottleneck maps, P x B, which all layers use in turn."""
        return self._buffer()

    @cached_property
    def recomputed_bottleneck(self) -> Tensor:
        """Memory for one layer's bottleneck maps, P x B, which all layers use in turn if none are stored."""
        return self._buffer()

    def _buffer(self) -> Tensor:
        buffer = self.matrix.new_empty(self.result.bottlenecks.shape[1:])
        self.kernels.advise_huge_pages(buffer)
        return buffer

    def unit(self, index: int, x: Tensor, moments: Moments | None) -> Unit:
        """A unit of the block, normalising by `moments`, or by its running statistics without."""
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
            dropout_mask=tensors.dropout_masks[index] if tensors.dropout_masks else None,
            dropout_scale=self.plan.dropout_scale,
        )

    def feature_unit(self, layer: int, channels: int) -> Unit:
        """The layer's first unit, which reads the first columns of the buffer."""
        moments = Moments(*self.result.feature_moments[:, :channels]) if self.plan.training else None
        return self.unit(layer * self.plan.layer_units, self.matrix[:, :channels], moments)

    def bottleneck_unit(self, layer: int) -> Unit:
        """The layer's second unit, which reads its bottleneck."""
        moments = Moments(*self.result.bottleneck_moments[layer]) if self.plan.training else None
        return self.unit(layer * 2 + 1, self.bottleneck(layer), moments)

    def bottleneck(self, layer: int) -> Tensor:
        """The memory of the layer's bottleneck maps, P x B."""
        return self.result.bottlenecks[layer] if len(self.result.bottlenecks) else self.recomputed_bottleneck

    def store_moments(self, start: int, end: int, moments: Moments | None) -> None:
        """Store the statistics of the channels `start` to `end`, combined over all ranks."""
        if moments is not None:
            torch.stack(self.global_batch.moments(moments), out=self.result.feature_moments[:, start:end])

    def layer_forward(self, layer: int, channels: int) -> int:
        """Run a layer on the first `channels` columns of the buffer; return the new number of columns."""
        kernels, training = self.kernels, self.plan.training
        unit = self.feature_unit(layer, channels)
        if self.plan.layer_units == 2:
            moments = kernels.forward(unit, self.bottleneck(layer), statistics=training)
            if moments is not None:
                torch.stack(self.global_batch.moments(moments), out=self.result.bottleneck_moments[layer])
            unit = self.bottleneck_unit(layer)
        end = channels + unit.weight.shape[0]
        moments = kernels.forward(unit, self.matrix[:, channels:end], statistics=training)
        self.store_moments(channels, end, moments)
        return end

    def transition_unit(self) -> Unit | None:
        """The transition's unit, which reads the whole buffer; None where there is none."""
        parameters, running = self.tensors.transition, self.tensors.transition_running
        if parameters is None:
            return None
        return Unit(
            x=self.matrix,
            batch=self.batch,
            sides=self.sides,
            moments=Moments(*self.result.feature_moments) if running is None else running,
            scale=parameters.scale,
            shift=parameters.shift,
            epsilon=self.plan.epsilons[-1],
            weight=parameters.weight,
            pool=self.plan.transition_pools,
        )

    def initial_gradients(
        self, gradient: Tensor | None, reduced_gradient: Tensor | None, sums: Tensor
    ) -> tuple[Tensor, list[UnitParameters]]:
        """The buffer of gradients, P x channels, before the backward pass of the block's layers.

        It holds the gradients of the block's output and, through the transition, of the transition's result.
        Returns it and the gradients of the transition's parameters, if there is one; adds to `sums`.
        """
        unit = self.transition_unit()
        if unit is None or reduced_gradient is None:
            assert gradient is not None
            matrix = torch.empty_like(self.matrix)
            self.kernels.advise_huge_pages(matrix)
            matrix.view_as(self.result.features).copy_(gradient.movedim(1, -1))
            return matrix, []
        # Pixels that pooling leaves out, at the end of an odd side, have a gradient by BN's statistics only.
        left_out = unit.pool and any(side % 2 for side in unit.sides)
        matrix = torch.zeros_like(unit.x) if left_out else torch.empty_like(unit.x)
        self.kernels.advise_huge_pages(matrix)
        if gradient is not None:
            matrix.view_as(self.result.features).copy_(gradient.movedim(1, -1))
        grads = self.kernels.backward(
            unit,
            as_matrix(reduced_gradient),
            None,
            matrix,
            accumulate=gradient is not None,
            sums=sums if self.plan.training else None,
        )
        return matrix, [grads]

    def backward(self, gradients: Tensor, sums: Tensor) -> list[UnitParameters]:
        """Backward pass of all layers, last first, in the buffer of gradients, P x channels."""
        grads: list[UnitParameters] = []
        end, units = gradients.shape[1], self.plan.layer_units
        for layer in reversed(range(len(self.tensors.parameters) // units)):
            start = end - self.tensors.parameters[layer * units + units - 1].weight.shape[0]
            grads = self.layer_backward(layer, start, end, gradients, sums) + grads
            end = start
        return grads

    def layer_backward(
        self, layer: int, start: int, end: int, gradients: Tensor, sums: Tensor
    ) -> list[UnitParameters]:
        """Backward pass of a layer, from the gradient of its columns start ... end to those before them."""
        unit, training = self.feature_unit(layer, start), self.plan.training
        gradient, correction = gradients[:, start:end], self.correction(start, end, sums)
        grads: list[UnitParameters] = []
        if self.plan.layer_units == 2:
            if not len(self.result.bottlenecks):
                self.kernels.forward(unit, self.recomputed_bottleneck, statistics=False)
            second = self.bottleneck_unit(layer)
            second_sums = torch.zeros_like(torch.stack(second.moments)) if training else None
            grads.append(
                self.kernels.backward(
                    second, gradient, correction, self.bottleneck_gradient, accumulate=False, sums=second_sums
                )
            )
            gradient, correction = self.bottleneck_gradient, None
            if second_sums is not None:
                correction = self.global_batch.correction(second.x, second.moments.mean, second_sums)
        first = self.kernels.backward(
            unit,
            gradient,
            correction,
            gradients[:, :start],
            accumulate=True,
            sums=sums[:, :start] if training else None,
        )
        return [first, *grads]

    def correction(self, start: int, end: int, sums: Tensor) -> BatchNormGradCorrection | None:
        """The BN correction of the gradient of columns start ... end; None where statistics are constants."""
        if not self.plan.training:
            return None
        mean = self.result.feature_moments[0, start:end]
        return self.global_batch.correction(self.matrix[:, start:end], mean, sums[:, start:end])

    def apply_correction(
        self, gradient: Tensor, correction: BatchNormGradCorrection | None, out: Tensor
    ) -> None:
        """Write the corrected gradient to `out`."""
        if correction is None:
            out.copy_(gradient)
        else:
            self.kernels.apply_correction(gradient, correction, out)
