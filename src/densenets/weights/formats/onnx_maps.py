"""What is known of a value that an ONNX graph computes of its input, and how nodes pad, turn and scale it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from densenets.errors import InputError
from densenets.weights.formats.native_content import OnnxNode
from densenets.weights.formats.onnx_constants import Constant, integers
from densenets.weights.formats.onnx_layers import GraphLayer

Made = Literal[
    "input", "convolution", "norm", "relu", "max pool", "average pool", "concatenation", "mean", "linear"
]


@dataclass(frozen=True, kw_only=True)
class Maps:
    """A value that the graph computes of its input.

    Attributes:
        made: by what.
        depth: of the longest path to it, in operators.
        rank: dimensions, with those of the batch and the channels; 0 if unknown.
        channels: 0 if unknown.
        channels_last: the channels are the last dimension.
        padding: zeros on each side along each dimension of pixels that a Pad put there; () for none.
        layer: what made it, if that has weights.
    """

    made: Made
    depth: int = 0
    rank: int = 0
    channels: int = 0
    channels_last: bool = False
    padding: tuple[int, ...] = ()
    layer: GraphLayer | None = None


def title(node: OnnxNode) -> str:
    """A node, for errors."""
    name = node.name or next(iter(node.outputs), "")
    return f"{node.operator:.80} {name:.120}"


def layer_name(node: OnnxNode, layer: GraphLayer, taken: Collection[str]) -> str:
    """A layer's name: that of its weight, if it is called so and not shared, else the node's."""
    key = layer.keys["weight"]
    stem, _, role = key.rpartition(".")
    return stem if stem and role == "weight" and stem not in taken else node.name or node.outputs[0]


def transposed(node: OnnxNode, maps: Maps) -> Maps:
    """Maps whose channels were moved to the second or to the last dimension.

    Raises:
        InputError: something else was moved.
    """
    order = integers(node, "perm", ())
    dims = len(order)
    to_first, to_last = [0, dims - 1, *range(1, dims - 1)], [0, *range(2, dims), 1]
    if dims < 3 and maps.made in ("mean", "linear"):
        return maps
    if order == to_first and (maps.channels_last or maps.made == "input"):
        return replace(maps, channels_last=False)
    if order == to_last and not maps.channels_last:
        return replace(maps, channels_last=True)
    raise InputError(f"{title(node)} turns maps around ({order})")


def padding(node: OnnxNode, maps: Maps, sides: Sequence[int]) -> tuple[int, ...]:
    """Zeros on each side that a convolution or a pool reads, its own and those of a Pad before it.

    Raises:
        InputError: there are more on one side than on the other.
    """
    strides = integers(node, "strides", [1] * len(sides))
    automatic = node.texts.get("auto_pad", "NOTSET")
    own = integers(node, "pads", [0] * 2 * len(sides))
    if automatic.startswith("SAME"):
        # With a stride, or of an even size, one side gets more than the other.
        if set(strides) != {1} or any(side % 2 == 0 for side in sides):
            raise InputError(f"{title(node)} pads one side more than the other ({automatic})")
        own = [side // 2 for side in sides] * 2
    if len(own) != 2 * len(sides) or own[: len(sides)] != own[len(sides) :]:
        raise InputError(f"{title(node)} pads one side more than the other")
    before = maps.padding or (0,) * len(sides)
    if len(before) != len(sides):
        raise InputError(f"{title(node)} has {len(sides)} sides, and its maps {len(before)}")
    return tuple(one + other for one, other in zip(own[: len(sides)], before, strict=True))


def padded(node: OnnxNode, maps: Maps, inputs: Sequence[Constant | None]) -> Maps:
    """Maps with zeros around their pixels.

    Args:
        node: a Pad.
        maps: what it reads.
        inputs: all that it reads, as far as it is constant.

    Raises:
        InputError: it pads otherwise, or it cannot be read how.
    """
    pads = inputs[1].integers if len(inputs) > 1 and inputs[1] else node.integers.get("pads")
    if pads is None or len(pads) < 6 or len(pads) % 2 or any(inputs[3:]) or maps.padding:
        raise InputError(f"{title(node)} has a padding that cannot be read")
    value = inputs[2] if len(inputs) > 2 else None
    other_number = bool(value.tensor.any()) if value else any(node.floats.get("value", ()))
    if other_number or node.texts.get("mode", "constant") != "constant":
        raise InputError(f"{title(node)} pads with other numbers than zeros")
    before, behind = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    # The pixels of an input come second where a Transpose is still to come.
    is_last = maps.channels_last or (maps.made == "input" and before[1] != 0)
    pixels, outside = (before[1:-1], before[-1]) if is_last else (before[2:], before[1])
    if before != behind or before[0] or outside or min(before) < 0:
        raise InputError(f"{title(node)} pads one side more than the other, or something else than pixels")
    return replace(maps, padding=tuple(pixels)) if any(pixels) else maps


def by_channel(node: OnnxNode, constant: Constant, maps: Maps) -> Tensor:
    """A constant as one number for each channel.

    Raises:
        InputError: it is none.
    """
    value, channels = constant.tensor, maps.channels
    shape = list(value.shape)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    is_flat = maps.channels_last or maps.made in ("mean", "linear")
    expected = [channels] if is_flat else [channels, *[1] * (maps.rank - 2)]
    is_number = value.numel() == 1 and maps.layer is not None  # of which there are as many as its channels
    if not value.is_floating_point() or not (is_number or shape == expected or shape == [channels] == [1]):
        raise InputError(f"{title(node)} has a constant of {list(value.shape)}, not a number a channel")
    return value.reshape(-1).expand(channels)
