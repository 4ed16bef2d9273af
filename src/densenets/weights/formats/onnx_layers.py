"""The layers of an ONNX graph on their way to a file's modules, and the arithmetic that makes norms of nodes.

Programs write a norm as a node of its own, fold it into the convolution before it, or leave a
multiplication and an addition with a number a channel. The last become a norm again: y = scale * x + shift is
that of the weight `scale`, the bias `shift`, mean 0, and a variance of 1 - epsilon, to which the norm adds
epsilon. And behind a norm y = weight * n + bias, they make it scale * weight * n + (scale * bias + shift).
Both are computed in float64 and rounded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.weights.formats.file_modules import FileModule, Kind
from densenets.weights.formats.onnx_constants import Constant

EPSILON = 1e-5  # ONNX' own default, and PyTorch's


@dataclass(kw_only=True)
class GraphLayer:
    """A layer of a graph.

    Attributes:
        name: the node's, or that of its weight.
        kind: as of a module.
        tensors: a role -> its numbers.
        keys: a role -> the graph's name of them.
        epsilon: of a norm that is a node; None for one that is none.
        consumers: kinds of what reads its result.
    """

    name: str
    kind: Kind
    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    epsilon: float | None = None
    consumers: set[str] = field(default_factory=set)

    def set(self, role: str, constant: Constant) -> None:
        """Give it a tensor of the graph."""
        self.tensors[role], self.keys[role] = constant.tensor, constant.key

    def scale_and_shift(self, operator: str, value: Tensor) -> None:
        """Put an operator with a number a channel behind a norm."""
        weight, bias = (self.tensors[role].double() for role in ("weight", "bias"))
        number = value.double()
        if operator in ("Mul", "Div"):
            factor = number if operator == "Mul" else 1 / number
            weight, bias = weight * factor, bias * factor
        else:
            bias = bias + (number if operator == "Add" else -number)
        self.tensors |= {"weight": weight, "bias": bias}


def unfused_norm(name: str, numbers: Tensor) -> GraphLayer:
    """A norm that leaves what it reads as it is, for operators to be put behind it.

    Args:
        name: of the first of them.
        numbers: one for each channel, of the type that the norm shall have.
    """
    return GraphLayer(
        name=name,
        kind="norm",
        tensors={
            "weight": torch.ones_like(numbers),
            "bias": torch.zeros_like(numbers),
            "running_mean": torch.zeros_like(numbers),
        },
    )


def modules(layers: Sequence[GraphLayer]) -> tuple[FileModule, ...]:
    """The layers as a file's modules."""
    epsilon = _common_epsilon(layers)
    return tuple(_module(layer, epsilon) for layer in layers)


def _common_epsilon(layers: Iterable[GraphLayer]) -> float:
    """What most norms add to the variance: those that are no nodes are written with it too."""
    counts = Counter(layer.epsilon for layer in layers if layer.epsilon is not None)
    return counts.most_common(1)[0][0] if counts else EPSILON


def _module(layer: GraphLayer, epsilon: float) -> FileModule:
    tensors = dict(layer.tensors)
    if layer.kind == "norm":
        if "running_var" not in tensors:
            tensors["running_var"] = torch.full_like(tensors["running_mean"], 1 - epsilon)
        # What was folded is float64, and comes from weights of the statistics' type.
        for role in ("weight", "bias"):
            tensors[role] = tensors[role].to(tensors["running_mean"].dtype)
        if any(value.shape != tensors["weight"].shape for value in tensors.values()):
            raise InputError(f"the norm {layer.name:.200} has tensors of several sizes")
    return FileModule(
        name=layer.name,
        kind=layer.kind,
        tensors=tensors,
        keys=layer.keys,
        epsilon=(epsilon if layer.epsilon is None else layer.epsilon) if layer.kind == "norm" else None,
    )
