"""A fused dense block with its transition as plain data: settings, tensors it reads, tensors it writes.

Shapes: N batch, P pixels (batch and sides flattened), C0 channels of the block's input, k growth rate,
L layers, B channels of a bottleneck, M channels of the transition's result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from torch import Tensor

from densenets.ops.backends.unit import Moments, UnitKernels, UnitParameters, accumulation_type


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """Settings of a fused dense block, and of the transition behind it where that is fused too.

    A transition alone is a block without layers.

    Operators take it as text, since a schema has no type for it, and its floating-point numbers separately,
    since they are symbols in a graph that is compiled for any size.

    Attributes:
        backend: name of the backend.
        layer_units: BN-ReLU-convolutions of a layer: 2 with bottleneck, 1 without.
        epsilons: of every unit's BN, in the order in which they run, the transition's last.
        dropout: probability behind each convolution of the block.
        training: normalise by the statistics of the batch; else by running ones.
        synchronized: normalise over the batch of all ranks.
        has_transition: whether a transition follows.
        transition_pools: whether it pools; else its result keeps the block's sides.
        keep_bottlenecks: store the bottleneck maps for the backward pass, else recompute them.
    """

    backend: str
    layer_units: int
    epsilons: tuple[float, ...]
    dropout: float
    training: bool
    synchronized: bool
    has_transition: bool
    transition_pools: bool
    keep_bottlenecks: bool

    @classmethod
    def parse(cls, text: str, epsilons: Sequence[float], dropout: float) -> BlockPlan:
        """The plan of a `text`, and of the numbers that are not in it."""
        backend, layer_units, *flags = text.split(" ")
        training, synchronized, has_transition, transition_pools, keep_bottlenecks = (
            flag == "1" for flag in flags
        )
        return cls(
            backend=backend,
            layer_units=int(layer_units),
            epsilons=tuple(epsilons),
            dropout=dropout,
            training=training,
            synchronized=synchronized,
            has_transition=has_transition,
            transition_pools=transition_pools,
            keep_bottlenecks=keep_bottlenecks,
        )

    @property
    def text(self) -> str:
        """All fields but the floating-point numbers, in order, as `parse` reads them."""
        flags = (
            self.training,
            self.synchronized,
            self.has_transition,
            self.transition_pools,
            self.keep_bottlenecks,
        )
        return " ".join([self.backend, str(self.layer_units), *[str(int(flag)) for flag in flags]])

    @property
    def dropout_scale(self) -> float:
        """Factor of the values that dropout keeps, 1 / (1 - probability)."""
        return 1 / (1 - self.dropout)

    def without_transition(self) -> BlockPlan:
        """The plan of the block alone."""
        return replace(self, epsilons=self.epsilons[:-1], has_transition=False)


@dataclass(frozen=True, kw_only=True)
class BlockTensors:
    """Tensors that a block reads beside its input.

    Attributes:
        parameters: of every unit, in the order in which they run, in their own types.
        running: running mean and variance of every unit in evaluation; empty in training.
        dropout_masks: of every unit, P x its channels; empty without dropout.
        transition: parameters of the transition's unit, if there is one.
        transition_running: running mean and variance of the transition's BN in evaluation.
    """

    parameters: list[UnitParameters]
    running: list[Moments]
    dropout_masks: list[Tensor]
    transition: UnitParameters | None
    transition_running: Moments | None

    @classmethod
    def of_lists(
        cls,
        parameters: Sequence[Tensor],
        running: Sequence[Tensor],
        dropout_masks: Sequence[Tensor],
        plan: BlockPlan,
    ) -> BlockTensors:
        """Sort an operator's lists (scale, shift, weight of each unit; its mean, variance) by unit."""
        units = [UnitParameters(*parameters[i : i + 3]) for i in range(0, len(parameters), 3)]
        moments = [Moments(*running[i : i + 2]) for i in range(0, len(running), 2)]
        last = plan.has_transition
        return cls(
            parameters=units[:-1] if last else units,
            running=moments[:-1] if last else moments,
            dropout_masks=list(dropout_masks),
            transition=units[-1] if last else None,
            transition_running=moments[-1] if last and moments else None,
        )


class BlockResult(NamedTuple):
    """Tensors that a block writes.

    Attributes:
        features: N x *sides x (C0 + L k), the shared buffer.
        bottlenecks: L x P x B where they are stored, else 0 x P x B.
        feature_moments: 2 x (C0 + L k), mean and variance; 2 x 0 in evaluation.
        bottleneck_moments: L x 2 x B; empty in evaluation or without bottleneck.
        reduced: the transition's result, N x *sides / 2 x M; empty without one.
    """

    features: Tensor
    bottlenecks: Tensor
    feature_moments: Tensor
    bottleneck_moments: Tensor
    reduced: Tensor


class BlockKernels(UnitKernels, Protocol):
    """The kernels of a backend that runs a whole block in one call."""

    def block_forward(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        """Write features, bottlenecks and moments of all layers.

        Args:
            result: is written; holds the block's input and, in training, the input's moments.
            tensors: that the block reads beside its input.
            plan: the block's settings.
        """
        ...

    def block_backward(
        self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan, gradients: Tensor, sums: Tensor
    ) -> list[UnitParameters]:
        """Backward pass of all layers; return the gradients of every unit's parameters.

        Args:
            result: of the forward pass.
            tensors: as in the forward pass.
            plan: as in the forward pass.
            gradients: P x channels, of the features; updated in place. The columns of the block's input
                still need their correction afterwards.
            sums: 2 x channels, added to: the sums for the corrections.
        """
        ...


def empty_result(x: Tensor, tensors: BlockTensors, plan: BlockPlan) -> BlockResult:
    """Uninitialised memory for the results of a block on N x C0 x *sides."""
    weights = [parameters.weight for parameters in tensors.parameters]  # none where a transition stands alone
    batch, channels, *sides = x.shape
    layers = len(weights) // plan.layer_units
    total = channels + sum(weight.shape[0] for weight in weights[plan.layer_units - 1 :: plan.layer_units])
    width = weights[0].shape[0] if plan.layer_units == 2 and weights else 0
    real, counted = accumulation_type(x.dtype), int(plan.training)
    if tensors.transition is None:
        reduced = x.new_empty(0)
    else:
        reduced_sides = [side // 2 if plan.transition_pools else side for side in sides]
        reduced = x.new_empty((batch, *reduced_sides, tensors.transition.weight.shape[0]))
    return BlockResult(
        x.new_empty((batch, *sides, total)),
        x.new_empty((layers if plan.keep_bottlenecks else 0, batch * math.prod(sides), width)),
        x.new_empty((2, total * counted), dtype=real),
        x.new_empty((layers * counted, 2, width), dtype=real),
        reduced,
    )
