"""Units of awkward shapes, and what PyTorch's own operations make of them, in float64 and in their own type.

Shapes: P pixels of the input, Q of the output, C channels read, M channels made.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from densenets.errors import InputError
from densenets.ops.backends.backend import BACKENDS, CPP, EAGER, availability_for, named_backend
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import load_library
from densenets.ops.backends.eager import EagerKernels
from densenets.ops.backends.unit import BatchNormGradCorrection, Moments, Unit, UnitKernels, accumulation_type

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
CHANNELS = (1, 3, 5, 17, 37, 48, 130)  # multiples of a register's lanes, just above them, less than one
SENTINEL = 7.5  # in columns that are not ours; every type holds it exactly
MARGIN = 3  # columns on either side of ours
# What x is normalised by: given constants, or its own statistics, through which gradients go as well.
Form = Literal["constants", "completed", "batch"]
_CONVOLUTION = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class Shape:
    """Of a unit; `offset` is how many standard deviations the input is away from zero."""

    batch: int
    sides: tuple[int, ...]
    channels: int
    made: int
    kernel: int = 1
    pool: bool = False
    drop: bool = False
    offset: float = 0.3

    def __str__(self) -> str:
        words = [f"{self.batch}x{'x'.join(map(str, self.sides))}", f"{self.channels}to{self.made}"]
        words.append(f"kernel{self.kernel}")
        words += [word for word in ("pool", "drop") if getattr(self, word)]
        return "-".join([*words, *([f"offset{self.offset:g}"] if self.offset > 1 else [])])

    @property
    def pixels(self) -> int:
        """P."""
        return self.batch * math.prod(self.sides)


SHAPES = (
    Shape(5, (1, 1), 5, 3),
    Shape(4, (1, 1), 17, 1, kernel=3),
    Shape(3, (1, 1, 1), 130, 5),
    Shape(5, (7,), 37, 5),
    Shape(3, (13,), 17, 12, kernel=3),
    Shape(1, (8, 8), 1, 1, kernel=3),
    Shape(2, (7, 5), 3, 48, kernel=3),
    Shape(1, (9, 9), 130, 17, kernel=3),
    Shape(3, (5, 3), 48, 130),
    Shape(2, (3, 5, 7), 5, 12, kernel=3),
    Shape(2, (4, 3, 2), 37, 1),
    Shape(2, (8, 6), 37, 17, pool=True),
    Shape(3, (7, 5), 48, 5, pool=True),
    Shape(2, (9,), 17, 3, pool=True),
    Shape(1, (4, 5, 2), 5, 48, pool=True),
    Shape(3, (7, 7), 37, 12, kernel=3, drop=True),
    Shape(3, (5, 5), 130, 48, drop=True),
    Shape(2, (6, 7), 17, 5, pool=True, drop=True),
    Shape(2, (6, 6), 17, 32, kernel=3, offset=20),
    # More than one box of pixels: too many pixels, too many bytes, lines wider than the registers hold.
    Shape(3, (11, 10), 37, 5),
    Shape(2, (20, 21), 5, 17, pool=True),
    Shape(1, (40, 41), 5, 3, kernel=3),
    Shape(1, (17, 19), 130, 48, kernel=3),
    Shape(1, (3, 70), 17, 12, kernel=3),
    Shape(1, (4, 17, 19), 5, 3, kernel=3),
    # Kernels of side 3 in depths of 1 and 2, where only some of their planes meet a pixel.
    Shape(3, (1, 4, 3), 5, 12, kernel=3),
    Shape(3, (1, 5, 3), 1, 12, kernel=3),
    Shape(2, (2, 5, 3), 17, 5, kernel=3),
)

# Some of them, for the instruction sets between the portable and the best one.
FEW_SHAPES = (
    Shape(5, (1, 1), 5, 3),
    Shape(2, (7, 5), 3, 48, kernel=3),
    Shape(2, (6, 7), 17, 5, pool=True, drop=True),
    Shape(3, (11, 10), 37, 5),
    Shape(1, (40, 41), 5, 3, kernel=3),
    Shape(1, (17, 19), 130, 48, kernel=3),
    Shape(2, (3, 5, 7), 5, 12, kernel=3),
)

# Of the max pooling behind an ImageNet network's first convolution; the kernel is its window.
STEM_SHAPES = (
    Shape(5, (1, 1), 5, 0, kernel=3),
    Shape(3, (2, 1), 1, 0, kernel=3),
    Shape(3, (7, 5), 17, 0, kernel=3),
    Shape(2, (8, 6), 37, 0, kernel=3),
    Shape(1, (14, 9), 130, 0, kernel=3),
    Shape(2, (13,), 48, 0, kernel=3),
    Shape(2, (3, 4, 5), 3, 0, kernel=3),
)


def label(value: object) -> str:
    """A parameter's value as a test's name has it."""
    return str(value).removeprefix("torch.")


def random_shapes(count: int, seed: int = 0) -> list[Shape]:
    """Other shapes, always the same ones."""
    choice = random.Random(seed)
    shapes = []
    for _ in range(count):
        dimensions = choice.choice((1, 2, 2, 3))
        sides = tuple(choice.choice((1, 2, 3, 5, 8, 11)) for _ in range(dimensions))
        kernel = choice.choice((1, 3))
        pool = kernel == 1 and min(sides) > 1 and choice.random() < 0.5
        # Few pixels leave batch normalisation with next to no gradient: only rounding to be compared.
        batch = choice.randint(1, 5) if math.prod(sides) > 4 else choice.randint(5, 9)
        made, drop = choice.choice((*CHANNELS, 12, 32)), choice.random() < 0.3
        # One channel's gradients are few numbers, which may cancel: then luck is all that differs.
        inside = choice.choice(CHANNELS[1:])
        shapes.append(Shape(batch, sides, inside, made, kernel, pool, drop))
    return shapes


def instruction_sets() -> tuple[str, ...]:
    """Those of the native library; none where it was not built."""
    try:
        return load_library().instruction_sets
    except InputError:
        return ()


def further_backends() -> tuple[str, ...]:
    """The names of backends beside those two that compute on this machine's CPU."""
    others = (backend for backend in BACKENDS if backend not in (CPP, EAGER))
    return tuple(backend.name for backend in others if availability_for(backend, "cpu", "float32").available)


def implementations() -> tuple[str, ...]:
    """PyTorch's operations, the native kernels of every instruction set, and the further backends."""
    return ("pytorch", *instruction_sets(), *further_backends())


def implementations_in_full() -> tuple[str, ...]:
    """PyTorch's operations, the portable kernels, the best ones of this machine, and the further backends."""
    return ("pytorch", *instruction_sets()[:1], *instruction_sets()[-1:], *further_backends())


def implementation(name: str) -> UnitKernels:
    """`pytorch`, the native kernels of an instruction set, or a further backend's."""
    if name in further_backends():
        return named_backend(name).load()
    return EagerKernels() if name == "pytorch" else CppKernels(name)


@dataclass(frozen=True)
class Example:
    """A unit and what comes back to it."""

    unit: Unit
    gradient: Tensor  # Q x M, of the result
    correction: BatchNormGradCorrection  # of that gradient, as another unit might have left it
    before: Tensor  # P x C, gradient of x that other units have added up
    sums: Tensor  # 2 x C, the same for the sums


def columns(values: Tensor, margin: int, fill: float) -> Tensor:
    """The values as the middle columns of a wider matrix; tight in memory without a margin."""
    rows, count = values.shape
    wide = values.new_full((rows, count + 2 * margin), fill)
    wide[:, margin : margin + count] = values
    return wide[:, margin : margin + count]


def first_columns(values: Tensor, margin: int, fill: float) -> Tensor:
    """The values as the first columns of a wider matrix."""
    return torch.cat([values, values.new_full((values.shape[0], margin), fill)], dim=1)[:, : values.shape[1]]


def outside(matrix: Tensor) -> Tensor:
    """The columns beside those of `columns` or `first_columns`."""
    storage = matrix._base if matrix._base is not None else matrix
    start = matrix.storage_offset()
    return torch.cat([storage[:, :start], storage[:, start + matrix.shape[1] :]], dim=1)


def make(shape: Shape, dtype: torch.dtype, form: Form = "constants", margin: int = MARGIN) -> Example:
    """The example of a shape, always the same; beside x and the gradient there is NaN, if anything."""
    generator = torch.Generator().manual_seed(zlib.crc32(str(shape).encode()))
    real = accumulation_type(dtype)

    def normal(*size: int, of: torch.dtype = real) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(of)

    inside, made = shape.channels, shape.made
    widths = 0.5 + torch.rand(inside, generator=generator, dtype=torch.float64)
    centers = shape.offset * widths * torch.where(normal(inside) < 0, -1, 1)
    x = (normal(shape.pixels, inside) * widths + centers).to(dtype)
    kernel = [shape.kernel] * len(shape.sides)
    unit = Unit(
        x=x,
        batch=shape.batch,
        sides=shape.sides,
        moments=Moments((centers + 0.1 * widths).to(real), (widths * widths * 1.2).to(real)),
        scale=normal(inside),
        shift=0.5 * normal(inside),
        epsilon=1e-5,
        weight=normal(made, inside, *kernel) / math.sqrt(inside * math.prod(kernel)),
        pool=shape.pool,
    )
    out = unit.out_pixels
    if shape.drop:
        dropout_mask = (torch.rand(out, made, generator=generator) < 0.8).to(torch.uint8)
        unit = replace(unit, dropout_mask=dropout_mask, dropout_scale=1.25)
    # Sums that are as large as the gradient itself once they are divided by the pixels.
    sums, pixels = normal(2, made) * 2 * out, 2.0 * out
    result, mean = normal(out, made, of=dtype), 0.3 * normal(made)
    return Example(
        unit=replace(unit, x=first_columns(_off_the_kink(unit, form), margin, math.nan)),
        gradient=columns(normal(out, made, of=dtype), margin, math.nan),
        correction=BatchNormGradCorrection(columns(result, margin, math.nan), mean, sums, pixels),
        before=normal(shape.pixels, inside, of=dtype),
        sums=normal(2, inside),
    )


def _off_the_kink(unit: Unit, form: Form) -> Tensor:
    """x without values that are zero, but for rounding, where ReLU sees them: gradients would be chance."""
    x = unit.x.clone()
    for _ in range(20):
        exact = x.double()
        variance, mean = torch.var_mean(exact, dim=0, correction=0)
        if form != "batch":
            mean, variance = (moment.double() for moment in unit.moments)
        seen = (exact - mean) * torch.rsqrt(
            variance + unit.epsilon
        ) * unit.scale.double() + unit.shift.double()
        near = seen.abs() < 1e-4
        if not near.any():
            return x
        x[near] += 0.0625
    raise AssertionError("an example has values at the kink of ReLU that cannot be moved")


@dataclass(frozen=True)
class Expected:
    """What an example's values are in float64, and how far PyTorch is from them in the example's type."""

    exact: dict[str, Tensor]
    pytorch: dict[str, float]


@functools.cache
def expected(shape: Shape, dtype: torch.dtype, form: Form) -> Expected:
    """Of the example of the same arguments."""
    example = make(shape, dtype, form)
    exact = by_autograd(example, form, torch.float64)
    if dtype != torch.float64:
        errors = relative_errors(by_autograd(example, form, dtype), exact)
        assert max(errors.values()) < 0.25, f"PyTorch itself is wrong, which is no measure: {errors}"
        return Expected(exact, errors)
    # There is nothing more exact to hold float64 against, so its errors are float32's, in proportion; half as
    # much again, because twice that, the tolerance, is then three times: once for what it is held against.
    proportion = 1.5 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
    known = expected(shape, torch.float32, form).pytorch
    return Expected(exact, {name: error * proportion for name, error in known.items()})


def relative_errors(actual: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Of each tensor; of means relative to the values that they are of, for means may be next to zero."""
    errors = {name: relative_error(value, exact[name]) for name, value in actual.items()}
    if "mean" in errors:
        values = (exact["mean"] ** 2 + exact["variance"]).sqrt().norm().item()
        errors["mean"] = (actual["mean"].double() - exact["mean"]).norm().item() / (values or 1.0)
    return errors


def by_autograd(example: Example, form: Form, dtype: torch.dtype) -> dict[str, Tensor]:
    """Everything that a unit makes, as the reference layers compute it; 16 bits under autocast."""
    unit, real = example.unit, accumulation_type(dtype)
    leaves = [
        tensor.to(kind).clone().requires_grad_()
        for tensor, kind in ((unit.x, dtype), (unit.scale, real), (unit.shift, real), (unit.weight, real))
    ]
    constants = None if form == "batch" else Moments(*(moment.to(real) for moment in unit.moments))
    half = dtype in (torch.bfloat16, torch.float16)
    with onednn(enabled=not (half and wrong_in_onednn(unit.sides, unit.weight.shape[2]))):
        with torch.autocast("cpu", dtype if half else torch.bfloat16, enabled=half):
            result = layer(unit, *leaves, constants)
        gradient = example.gradient.to(real)
        if form == "completed":
            gradient = completed(gradient, example.correction)
        x, scale, shift, weight = torch.autograd.grad(result, leaves, gradient.to(result.dtype))
    mean, inverse = unit.moments.mean.to(real), torch.rsqrt(unit.moments.variance.to(real) + unit.epsilon)
    sums = torch.stack([x.to(real).sum(dim=0), (x * (unit.x.to(real) - mean) * inverse**2).sum(dim=0)])
    variance, result_mean = torch.var_mean(result.detach().to(real), dim=0, correction=0)
    return {
        "result": result.detach(),
        "mean": result_mean,
        "variance": variance,
        "x": x,
        "x added": example.before.to(dtype) + x,
        "sums added": example.sums.to(real) + sums,
        "scale": scale,
        "shift": shift,
        "weight": weight,
    }


def stem_gradient(example: Example) -> Tensor:
    """Of what comes out of a stem, always the same."""
    unit = example.unit
    outputs = unit.batch * math.prod((side - 1) // 2 + 1 for side in unit.sides)
    generator = torch.Generator().manual_seed(outputs)
    values = torch.randn((outputs, unit.x.shape[1]), generator=generator, dtype=torch.float64)
    return values.to(unit.x.dtype)


def stem_by_autograd(example: Example, form: Form, dtype: torch.dtype) -> dict[str, Tensor]:
    """BN, ReLU and max pooling of windows of 3, two apart; see `by_autograd`."""
    unit, real = example.unit, accumulation_type(dtype)
    leaves = [
        tensor.to(kind).clone().requires_grad_()
        for tensor, kind in ((unit.x, dtype), (unit.scale, real), (unit.shift, real))
    ]
    x, scale, shift = leaves
    images = x.view(unit.batch, *unit.sides, -1).movedim(-1, 1)
    constants = (None, None) if form == "batch" else tuple(moment.to(real) for moment in unit.moments)
    normal = functional.batch_norm(images, *constants, scale, shift, form == "batch", 0, unit.epsilon)
    pooled = _MAX_POOL[len(unit.sides)](torch.relu(normal), 3, stride=2, padding=1)
    result = pooled.movedim(1, -1).reshape(-1, unit.x.shape[1])
    found = torch.autograd.grad(result, leaves, stem_gradient(example).to(dtype))
    return {"result": result.detach(), **dict(zip(("x", "scale", "shift"), found, strict=True))}


@contextmanager
def onednn(*, enabled: bool) -> Iterator[None]:
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = enabled
    yield
    torch.backends.mkldnn.enabled = before


def wrong_in_onednn(sides: tuple[int, ...], kernel: int) -> bool:
    """Whether PyTorch's convolution of bfloat16 is wrong on a CPU with instructions for it.

    Seen with PyTorch 2.14 and its oneDNN 3.12: with a kernel of side 3 in three dimensions, the weight's
    gradient of depth 2 and the result of depth 1 are partly whatever was in memory. Which numbers of channels
    are wrong depends on the instructions, AVX512-BF16 or AMX.
    """
    return len(sides) == 3 and kernel == 3 and sides[0] <= 2


def layer(
    unit: Unit, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, constants: Moments | None
) -> Tensor:
    """The unit by PyTorch's modules' functions: BN, ReLU, convolution, pooling, dropout; P x C -> Q x M."""
    images = x.view(unit.batch, *unit.sides, -1).movedim(-1, 1)
    mean, variance = constants or (None, None)
    normal = functional.batch_norm(images, mean, variance, scale, shift, constants is None, 0, unit.epsilon)
    made = _CONVOLUTION[len(unit.sides)](torch.relu(normal), weight, padding=weight.shape[2] // 2)
    made = _AVERAGE_POOL[len(unit.sides)](made, 2) if unit.pool else made
    made = made.movedim(1, -1).reshape(unit.out_pixels, -1)
    return made if unit.dropout_mask is None else made * unit.dropout_mask * unit.dropout_scale


def completed(gradient: Tensor, correction: BatchNormGradCorrection) -> Tensor:
    """By the definition, in the gradient's type."""
    result, mean, sums = (tensor.to(gradient.dtype) for tensor in correction[:3])
    return gradient - (sums[0] + (result - mean) * sums[1]) / correction.pixels


def relative_error(actual: Tensor, exact: Tensor) -> float:
    """Of the whole tensor, by the norm; absolute where the exact one is zero."""
    distance, size = (actual.double() - exact).norm().item(), exact.norm().item()
    return distance / size if size > 0 else distance
