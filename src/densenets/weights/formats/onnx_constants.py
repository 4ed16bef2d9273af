"""Constants of an ONNX graph: its own tensors, and what nodes make of constants alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.weights.formats.native_content import OnnxNode

_MOST_NUMBERS = 1024  # of constants that are computed with, such as paddings
_DTYPES = {
    1: torch.float32,
    10: torch.float16,
    11: torch.float64,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
}


@dataclass(frozen=True)
class Constant:
    """A constant tensor.

    Attributes:
        tensor: its numbers.
        key: the graph's name of the tensor that they come from.
    """

    tensor: Tensor
    key: str

    @property
    def integers(self) -> list[int] | None:
        """Its numbers where it is a short list of whole ones."""
        if self.tensor.is_floating_point() or self.tensor.numel() > _MOST_NUMBERS:
            return None
        return [int(value) for value in self.tensor.reshape(-1)]


def integers(node: OnnxNode, name: str, default: Sequence[int]) -> list[int]:
    """An attribute of integers."""
    return node.integers.get(name) or list(default)


def integer(node: OnnxNode, name: str, default: int) -> int:
    """An attribute of one integer."""
    return integers(node, name, [default])[0]


def computed(node: OnnxNode, inputs: Sequence[Constant | None]) -> Constant | None:
    """What a node makes of constants; None if it is not known, or if that would be long.

    Args:
        node: reads nothing but constants.
        inputs: those, with the node's own value behind them; None for one that is not known.
    """
    compute = _OPERATORS.get(node.operator)
    first = inputs[0] if inputs else None
    if compute is None or first is None:
        return None
    if node.operator not in _VIEWS and any(one and one.tensor.numel() > _MOST_NUMBERS for one in inputs):
        return None
    try:
        tensor = compute(node, first.tensor, inputs)
    except (RuntimeError, IndexError, ValueError, TypeError, OverflowError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(f"{node.name or node.operator:.200} cannot be computed ({said:.100})") from error
    return None if tensor is None else replace(first, tensor=tensor)


def _numbers(inputs: Sequence[Constant | None], place: int) -> list[int] | None:
    value = inputs[place] if place < len(inputs) else None
    return value.integers if value else None


def _cast(node: OnnxNode, value: Tensor, _: Sequence[Constant | None]) -> Tensor | None:
    dtype = _DTYPES.get(integer(node, "to", 0))
    if dtype is None or value.is_floating_point() == dtype.is_floating_point:
        return value  # weights stay as they are stored
    return value.to(dtype) if value.numel() <= _MOST_NUMBERS else None


def _transposed(node: OnnxNode, value: Tensor, _: Sequence[Constant | None]) -> Tensor:
    return value.permute(integers(node, "perm", range(value.dim())[::-1]))


def _reshaped(_: OnnxNode, value: Tensor, inputs: Sequence[Constant | None]) -> Tensor | None:
    shape = _numbers(inputs, 1)
    if shape is None:
        return None
    shape = [value.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    return value.reshape(shape) if value.numel() <= _MOST_NUMBERS else value.view(shape)


def _squeezed(node: OnnxNode, value: Tensor, inputs: Sequence[Constant | None]) -> Tensor:
    axes = _numbers(inputs, 1) or node.integers.get("axes")
    return value.squeeze() if axes is None else value.squeeze(tuple(axes))


def _unsqueezed(node: OnnxNode, value: Tensor, inputs: Sequence[Constant | None]) -> Tensor:
    for axis in sorted(_numbers(inputs, 1) or integers(node, "axes", ())):
        value = value.unsqueeze(axis)
    return value


def _filled(_: OnnxNode, __: Tensor, inputs: Sequence[Constant | None]) -> Tensor | None:
    shape = _numbers(inputs, 0)
    value = inputs[1].tensor if len(inputs) > 1 and inputs[1] else torch.zeros(1)
    if shape is None or math.prod(shape) > _MOST_NUMBERS:
        return None
    return value.reshape(()).expand(shape)


def _joined(node: OnnxNode, _: Tensor, inputs: Sequence[Constant | None]) -> Tensor | None:
    parts = [one.tensor for one in inputs if one]
    if len(parts) < len(inputs) or sum(part.numel() for part in parts) > _MOST_NUMBERS:
        return None
    return torch.cat(parts, integer(node, "axis", 0))


def _sliced(_: OnnxNode, value: Tensor, inputs: Sequence[Constant | None]) -> Tensor | None:
    starts, ends = _numbers(inputs, 1), _numbers(inputs, 2)
    if starts is None or ends is None:
        return None
    axes = _numbers(inputs, 3) or range(len(starts))
    steps = _numbers(inputs, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = list(range(value.shape[axis]))[start:end:step]
        value = value.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return value


_VIEWS = {"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Cast"}  # which take no memory
_OPERATORS: dict[str, Callable[[OnnxNode, Tensor, Sequence[Constant | None]], Tensor | None]] = {
    "Identity": lambda _node, value, _inputs: value,
    "Cast": _cast,
    "Reshape": _reshaped,
    "Transpose": _transposed,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "ConstantOfShape": _filled,
    "Concat": _joined,
    "Slice": _sliced,
}
