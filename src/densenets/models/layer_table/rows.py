"""What a network is, layer by layer, as plain data. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

TRAINING_COST = 3  # a training step in forward passes: the backward pass takes two of them

_STORED = ("stored_reference", "stored_recompute", "stored_fused", "stored_fused_lean")


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """A row of the summary.

    Attributes:
        name: as in the state dict.
        size: sides of the maps that it makes, in pixels.
        reads: channels that it reads.
        adds: channels that it makes.
        hands_on: channels that are there behind it.
        connections: direct ones that end here, from the block's input and every layer before this one; the
            paper's L (L + 1) / 2 of a block are those of its layers (its transition reads the same maps).
        parameters: weights, biases, scales and shifts.
        multiply_adds: of its convolutions or its linear layer, for one image.
        stored_reference: bytes of activations that training keeps for the backward pass, for one image
            in float32 without dropout, in the reference execution; None where that is not known (peers).
        stored_recompute: the same in the recompute execution.
        stored_fused: the same in the fused execution, native kernels.
        stored_fused_lean: the same in the fused-lean execution.
    """

    name: str
    size: tuple[int, ...]
    reads: int
    adds: int
    hands_on: int
    connections: int = 0
    parameters: int
    multiply_adds: int
    stored_reference: int | None = None
    stored_recompute: int | None = None
    stored_fused: int | None = None
    stored_fused_lean: int | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """All rows, in the order of the data."""

    name: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerFacts, ...]

    @property
    def knows_stored_bytes(self) -> bool:
        """Whether the rows say what training keeps."""
        return self.layers[0].stored_reference is not None

    @property
    def quantities(self) -> list[str]:
        """What the rows can be summed over."""
        return ["connections", "parameters", "multiply_adds", *(_STORED if self.knows_stored_bytes else ())]

    def total(self, quantity: str) -> int:
        """The sum of a quantity over all layers, such as "parameters"."""
        return sum(getattr(layer, quantity) for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Rows and totals, as JSON can hold them."""
        unknown = set(_STORED) - set(self.quantities)
        return {
            "name": self.name,
            "input": list(self.input_shape),
            "totals": {quantity: self.total(quantity) for quantity in self.quantities},
            "layers": [
                {key: value for key, value in dataclasses.asdict(layer).items() if key not in unknown}
                for layer in self.layers
            ],
        }
