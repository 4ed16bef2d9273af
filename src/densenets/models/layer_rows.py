"""The rows of a layer table: channels, parameters, multiply-adds and memory by layer. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

TRAINING_COST = 3  # multiply-adds of a training step in forward passes: the backward pass takes two

# Field of a row that counts the activations that an execution of the dense blocks stores.
STORED_BYTES = {
    "reference": "stored_reference",
    "recompute": "stored_recompute",
    "fused": "stored_fused",
    "fused-lean": "stored_fused_lean",
}
# Keys of the command line's tables and JSON that differ from the fields' names.
_COLUMNS = {"in_channels": "reads", "new_channels": "adds", "out_channels": "hands_on"}


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer's channels, parameters, multiply-adds and stored activations.

    Attributes:
        name: as in the state dict.
        size: sides of its output, in pixels.
        in_channels: channels that it reads.
        new_channels: channels that it computes, k in a dense layer.
        out_channels: channels that the next layer reads; in a dense layer in_channels + new_channels.
        connections: direct connections into this layer, from the block's input and every earlier layer; over
            a block's layers the paper's L (L + 1) / 2 (the transition reads the same maps).
        parameters: weights, biases, scales and shifts.
        multiply_adds: of its convolutions or its linear layer, for one image.
        stored_reference: bytes of activations that training stores for the backward pass, for one image
            in float32 without dropout, in the reference execution; None where it is not counted (baselines).
        stored_recompute: the same in the recompute execution.
        stored_fused: the same in the fused execution, native kernels.
        stored_fused_lean: the same in the fused-lean execution.
    """

    name: str
    size: tuple[int, ...]
    in_channels: int
    new_channels: int
    out_channels: int
    connections: int = 0
    parameters: int
    multiply_adds: int
    stored_reference: int | None = None
    stored_recompute: int | None = None
    stored_fused: int | None = None
    stored_fused_lean: int | None = None


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """The rows of a network, in the order in which its layers run.

    Attributes:
        name: of the network.
        input_shape: of an image, channels and sides.
        layers: the rows.
    """

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]

    @property
    def has_stored_bytes(self) -> bool:
        """Whether the rows count the activations that training stores."""
        return self.layers[0].stored_reference is not None

    @property
    def quantities(self) -> list[str]:
        """Names of the fields of a row that have a total."""
        stored = STORED_BYTES.values() if self.has_stored_bytes else ()
        return ["connections", "parameters", "multiply_adds", *stored]

    def total(self, quantity: str) -> int:
        """The sum of a quantity over all layers, such as "parameters"."""
        return sum(getattr(layer, quantity) for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Rows and totals as JSON."""
        unknown = set(STORED_BYTES.values()) - set(self.quantities)
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "totals": {quantity: self.total(quantity) for quantity in self.quantities},
            "layers": [
                {
                    _COLUMNS.get(field, field): value
                    for field, value in dataclasses.asdict(layer).items()
                    if field not in unknown
                }
                for layer in self.layers
            ],
        }


def layer_row(
    name: str,
    size: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    parameters: int,
    multiply_adds: int,
) -> LayerRow:
    """The row of a layer that passes on only what it computes, without a count of stored activations."""
    return LayerRow(
        name=name,
        size=size,
        in_channels=in_channels,
        new_channels=out_channels,
        out_channels=out_channels,
        parameters=parameters,
        multiply_adds=multiply_adds,
    )


def convolution_row(
    name: str,
    size: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    kernel: int,
    convolved: tuple[int, ...],
) -> LayerRow:
    """The row of a convolution with bias whose maps have the sides `convolved`, pooled to `size`."""
    weights = kernel**2 * in_channels * out_channels
    return layer_row(
        name, size, in_channels, out_channels, weights + out_channels, weights * math.prod(convolved)
    )


def linear_row(name: str, in_features: int, classes: int) -> LayerRow:
    """The row of a linear layer with bias, after global average pooling."""
    weights = in_features * classes
    return layer_row(name, (1, 1), in_features, classes, weights + classes, weights)
