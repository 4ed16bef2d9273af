"""FLOPs of the fused operators for PyTorch's counter: those of the convolutions that they compute.

They are counted as in the reference: a transition's convolution before its pooling, multiplications that
tiles save as if they were made, what "fused-lean" makes again not at all.
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


def _counts(operator: Any) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """A decorator: the formula of an operator, which is given shapes in the place of tensors."""
    return register_flop_formula(operator._opoverload.overloadpacket)


def _of_convolutions(pixels: int, parameters: Sequence[Shape]) -> int:
    """Two for each multiply-add; `parameters` are scale, shift and weight of every unit, by their shapes."""
    return 2 * pixels * sum(math.prod(weight) for weight in parameters[2::3])


def _pixels(maps: Shape) -> int:
    """Of N x C x *sides."""
    return maps[0] * math.prod(maps[2:])


@_counts(dense_block_operator)
def _block(x: Shape, parameters: Sequence[Shape], *_: Any, **__: Any) -> int:
    return _of_convolutions(_pixels(x), parameters)


@_counts(dense_block_backward_operator)
def _block_backward(
    gradients: Sequence[Shape | None],
    results: Sequence[Shape],
    parameters: Sequence[Shape],
    *_: Any,
    **__: Any,
) -> int:
    # Once for the gradient of what a convolution reads, once for that of its weight.
    return 2 * _of_convolutions(_pixels(results[0]), parameters)


@_counts(lean_stem_operator)
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
    return _of_first_convolution(images, weight, stride, padding)


@_counts(lean_stem_backward_operator)
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
    return (1 + of_images) * _of_first_convolution(images, weight, stride, padding)


def _of_first_convolution(images: Shape, weight: Shape, stride: Sequence[int], padding: Sequence[int]) -> int:
    sides = [
        (side + 2 * margin - kernel) // step + 1
        for side, kernel, step, margin in zip(images[2:], weight[2:], stride, padding, strict=True)
    ]
    return _of_convolutions(images[0] * math.prod(sides), [(), (), weight])
