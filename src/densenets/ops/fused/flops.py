"""FLOPs of the fused operators for PyTorch's FLOP counter: those of their convolutions.

They are counted as in the reference: a transition's convolution before its pooling, multiplications that
Winograd tiles save as if they were made, recomputation of "fused-lean" not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from torch.utils.flop_counter import register_flop_formula

from densenets.ops.fused.lean_stem import lean_stem_backward_operator, lean_stem_operator
from densenets.ops.fused.operators import dense_block_backward_operator, dense_block_operator

P = ParamSpec("P")
Shape = Sequence[int]


def _flop_formula(operator: Any) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """A decorator that registers the FLOP formula of an operator; it gets shapes in the place of tensors."""
    return register_flop_formula(operator._opoverload.overloadpacket)


def _convolution_flops(pixels: int, parameters: Sequence[Shape]) -> int:
    """FLOPs of convolutions, two for each multiply-add.

    Args:
        pixels: of the maps, over the batch.
        parameters: shapes of scale, shift and weight of every unit.
    """
    return 2 * pixels * sum(math.prod(weight) for weight in parameters[2::3])


def _pixels(maps: Shape) -> int:
    """Number of pixels of N x C x *sides, over the batch."""
    return maps[0] * math.prod(maps[2:])


@_flop_formula(dense_block_operator)
def _block(x: Shape, parameters: Sequence[Shape], *_: Any, **__: Any) -> int:
    return _convolution_flops(_pixels(x), parameters)


@_flop_formula(dense_block_backward_operator)
def _block_backward(
    gradients: Sequence[Shape | None],
    results: Sequence[Shape],
    parameters: Sequence[Shape],
    *_: Any,
    **__: Any,
) -> int:
    # Once for the gradient of a convolution's input, once for that of its weight.
    return 2 * _convolution_flops(_pixels(results[0]), parameters)


@_flop_formula(lean_stem_operator)
def _lean_stem(
    images: Shape,
    weight: Shape,
    scale: Shape,
    shift: Shape,
    running: Sequence[Shape],
    epsilon: float,
    stride: Sequence[int],
    padding: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    return _first_convolution_flops(images, weight, stride, padding)


@_flop_formula(lean_stem_backward_operator)
def _lean_stem_backward(
    gradient: Shape,
    images: Shape,
    weight: Shape,
    scale: Shape,
    shift: Shape,
    moments: Shape,
    epsilon: float,
    training: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    of_images: bool,
    *_: Any,
    **__: Any,
) -> int:
    return (1 + of_images) * _first_convolution_flops(images, weight, stride, padding)


def _first_convolution_flops(
    images: Shape, weight: Shape, stride: Sequence[int], padding: Sequence[int]
) -> int:
    sides = [
        (side + 2 * margin - kernel) // step + 1
        for side, kernel, step, margin in zip(images[2:], weight[2:], stride, padding, strict=True)
    ]
    return _convolution_flops(images[0] * math.prod(sides), [(), (), weight])
