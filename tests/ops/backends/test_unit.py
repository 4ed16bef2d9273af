"""What every implementation of the unit does: PyTorch's operations, and each instruction set's kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pytest
import torch
from quick_tests import every
from torch import Tensor
from torch.nn import functional
from unit_checks import (
    ROUNDINGS,
    check_accumulation,
    check_backward,
    check_batch_statistics,
    check_forward,
    check_unusual_value,
    poisoned,
    poisoned_gradient,
)
from units import (
    DTYPES,
    FEW_SHAPES,
    SENTINEL,
    SHAPES,
    Shape,
    completed,
    first_columns,
    implementation,
    implementations,
    implementations_in_full,
    label,
    make,
    onednn,
    outside,
    random_shapes,
    relative_error,
    relative_errors,
    wrong_in_onednn,
)

from densenets.ops.backends.unit import BatchNormGradCorrection, Moments, Unit, UnitKernels, accumulation_type

pytestmark = pytest.mark.usefixtures("fresh_memory_is_nan")
IMPLEMENTATIONS = implementations()
every_implementation = every("name", IMPLEMENTATIONS, quick=lambda name: name in implementations_in_full())
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=label)
every_unit = every(
    "name, dtype, shape",
    product(IMPLEMENTATIONS, DTYPES, [*SHAPES, *random_shapes(10)]),
    quick=lambda name, _, shape: shape in (SHAPES if name in implementations_in_full() else FEW_SHAPES),
    ids=label,
)


@pytest.fixture
def kernels(request: pytest.FixtureRequest, name: str) -> Iterator[UnitKernels]:
    dtype, shape = (request.node.callspec.params.get(key) for key in ("dtype", "shape"))
    in_onednn = name == "pytorch" and dtype == torch.bfloat16 and shape is not None
    with onednn(enabled=not (in_onednn and wrong_in_onednn(shape.sides, shape.kernel))):
        yield implementation(name)


@every_unit
def test_result_and_its_moments(kernels: UnitKernels, dtype: torch.dtype, shape: Shape):
    check_forward(kernels, shape, dtype)


@every_unit
def test_gradients(kernels: UnitKernels, dtype: torch.dtype, shape: Shape):
    check_backward(kernels, shape, dtype)


@every_unit
def test_gradients_added_to_others(kernels: UnitKernels, dtype: torch.dtype, shape: Shape):
    check_accumulation(kernels, shape, dtype)


@every_unit
def test_gradients_through_the_statistics_of_the_batch(
    kernels: UnitKernels, dtype: torch.dtype, shape: Shape
):
    check_batch_statistics(kernels, shape, dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, (5, 7), 37, 5),
        Shape(2, (5, 7), 17, 12, kernel=3),
        Shape(2, (7,), 5, 3, kernel=3),
        Shape(1, (3, 5, 3), 3, 17, kernel=3),
        Shape(2, (8, 6), 37, 17, pool=True),
        Shape(2, (5, 5), 37, 5, kernel=3, drop=True),
    ],
    ids=str,
)
@every_dtype
@every_implementation
def test_nan_and_infinity_come_out(kernels: UnitKernels, dtype: torch.dtype, shape: Shape, value: float):
    check_unusual_value(kernels, shape, dtype, value)


@every_dtype
@every_implementation
def test_relu_has_no_slope_at_zero(kernels: UnitKernels, dtype: torch.dtype):
    """Scales and shifts of zero, as some begin training with: nothing comes out, nothing goes back."""
    example = make(Shape(2, (5, 7), 17, 12, kernel=3), dtype)
    unit = replace(example.unit, scale=torch.zeros(17).to(example.unit.scale), shift=0 * example.unit.shift)
    out, x_gradient = poisoned(70, 12, dtype), poisoned_gradient(unit)
    kernels.forward(unit, out, statistics=False)
    found = kernels.backward(unit, example.gradient, None, x_gradient, accumulate=False, sums=None)
    for tensor in (out, x_gradient, *found):
        assert (tensor == 0).all()


def spread(rows: int, count: int, dtype: torch.dtype, mean: float = 0.3, width: float = 1.5) -> Tensor:
    """Values in the first columns of a wider matrix, NaN in the others."""
    generator = torch.Generator().manual_seed(rows * 1000 + count)
    values = torch.randn((rows, count), generator=generator, dtype=torch.float64) * width + mean
    return first_columns(values.to(dtype), 3, math.nan)


def exact_moments(x: Tensor) -> dict[str, Tensor]:
    # Around a value close by: float64 too loses digits far from zero.
    near = x.double().mean(dim=0)
    variance, mean = torch.var_mean(x.double() - near, dim=0, correction=0)
    return {"mean": near + mean, "variance": variance}


def assert_moments_as_exact_as_pytorch(kernels: UnitKernels, x: Tensor) -> None:
    real = accumulation_type(x.dtype)
    exact, found = exact_moments(x), kernels.statistics(x)
    theirs, mean = torch.var_mean(x.to(real), dim=0, correction=0)
    pytorch = relative_errors({"mean": mean, "variance": theirs}, exact)
    floor = ROUNDINGS[real] * torch.finfo(real).eps
    for name, error in relative_errors(found._asdict(), exact).items():
        assert getattr(found, name).dtype == real
        assert error <= 2 * pytorch[name] + floor, f"{name}: error {error:.3g}, PyTorch's {pytorch[name]:.3g}"


@pytest.mark.parametrize(("rows", "count"), [(2, 1), (5, 3), (63, 17), (64, 37), (65, 48), (1000, 130)])
@every_dtype
@every_implementation
def test_statistics(kernels: UnitKernels, dtype: torch.dtype, rows: int, count: int):
    assert_moments_as_exact_as_pytorch(kernels, spread(rows, count, dtype))


@pytest.mark.parametrize("rows", [50, 64, 1000, 20_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_implementation
def test_statistics_far_from_zero(kernels: UnitKernels, dtype: torch.dtype, rows: int):
    # A sum of squares would lose the variance altogether: it is a 1e-12th of them.
    assert_moments_as_exact_as_pytorch(kernels, spread(rows, 37, dtype, mean=1e4, width=1e-2))


@pytest.mark.parametrize("rows", [50, 64, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_implementation
def test_statistics_of_a_channel_that_begins_elsewhere(kernels: UnitKernels, dtype: torch.dtype, rows: int):
    x = spread(rows, 37, dtype)
    x[0] += 1e4
    assert_moments_as_exact_as_pytorch(kernels, x)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@every_dtype
@every_implementation
def test_a_constant_channel_has_no_variance(kernels: UnitKernels, dtype: torch.dtype, rows: int):
    values = torch.tensor([0.0, 0.1, -3.3, 12345.678], dtype=dtype)
    found = kernels.statistics(values.expand(rows, -1).contiguous())
    real = accumulation_type(dtype)
    torch.testing.assert_close(found.mean, values.to(real), rtol=2 * torch.finfo(real).eps, atol=0)
    # Zero, but for the square of a mean's rounding.
    assert (found.variance.sqrt() <= torch.finfo(real).eps * values.to(real).abs()).all(), found.variance


@pytest.mark.parametrize("value", [math.nan, math.inf])
@every_dtype
@every_implementation
def test_statistics_of_what_is_no_number(kernels: UnitKernels, dtype: torch.dtype, value: float):
    x = spread(100, 17, dtype)
    x[50, 3] = value
    for moment in kernels.statistics(x):
        assert [channel for channel in range(17) if not moment[channel].isfinite()] == [3]


@pytest.mark.parametrize("mean", [0.3, 20.0])
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (5, 3), (64, 37), (33, 130)])
@every_dtype
@every_implementation
def test_completion(kernels: UnitKernels, dtype: torch.dtype, rows: int, count: int, mean: float):
    result, real = spread(rows, count, dtype, mean, 1.0), accumulation_type(dtype)
    gradient = spread(rows + 1, count, dtype)[:rows]
    correction = BatchNormGradCorrection(
        result, torch.full((count,), mean, dtype=real), rows * spread(2, count, real).contiguous(), 1.5 * rows
    )
    out = poisoned(rows, count, dtype)
    kernels.apply_correction(gradient, correction, out)
    exact = completed(gradient.double(), correction)
    pytorch = relative_error(completed(gradient.to(real), correction).to(dtype), exact)
    floor = ROUNDINGS[dtype] * torch.finfo(dtype).eps
    assert relative_error(out, exact) <= 2 * pytorch + floor
    assert (outside(out) == SENTINEL).all()
    kernels.apply_correction(gradient, correction, gradient)
    assert torch.equal(gradient, out), "the gradient's own memory does as well"


class Parameters(NamedTuple):
    """Of a BN-ReLU-convolution."""

    scale: Tensor
    shift: Tensor
    weight: Tensor


def two_layers(channels: int, growth: int) -> list[Parameters]:
    generator = torch.Generator().manual_seed(0)
    layers = []
    for inside in (channels, channels + growth):
        scale, shift = torch.randn((2, inside), generator=generator, dtype=torch.float64)
        weight = torch.randn((growth, inside, 3, 3), generator=generator, dtype=torch.float64)
        layers.append(Parameters(scale, shift, weight / math.sqrt(9 * inside)))
    return layers


def dense_block_by_pytorch(x: Tensor, layers: list[Parameters], gradient: Tensor) -> list[Tensor]:
    """Features, and gradients of x and all parameters; N x C x H x W in, P x C out."""
    leaves = [x, *(tensor for layer in layers for tensor in layer)]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    features = leaves[0]
    with torch.autocast("cpu", torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        for scale, shift, weight in (leaves[1:4], leaves[4:]):
            normal = functional.batch_norm(features, None, None, scale, shift, training=True)
            made = functional.conv2d(torch.relu(normal), weight, padding=1)
            features = torch.cat([features, made], dim=1)
    image_gradient = gradient.view(x.shape[0], *x.shape[2:], -1).movedim(-1, 1).to(features.dtype)
    found = torch.autograd.grad(features, leaves, image_gradient)
    return [
        features.detach().movedim(1, -1).flatten(0, 2),
        found[0].movedim(1, -1).flatten(0, 2),
        *found[1:],
    ]


def dense_block_by_kernels(
    kernels: UnitKernels, x: Tensor, layers: list[Parameters], gradient: Tensor
) -> list[Tensor]:
    """The same from the units alone: one buffer, one gradient that all consumers add to."""
    batch, channels, *sides = x.shape
    growth, pixels = layers[0].weight.shape[0], batch * math.prod(sides)
    real = accumulation_type(x.dtype)
    buffer = torch.full((pixels, channels + 2 * growth), math.nan, dtype=x.dtype)
    buffer[:, :channels] = x.movedim(1, -1).flatten(0, 2)
    moments, sums = torch.full((2, 2, buffer.shape[1]), math.nan, dtype=real)
    moments[:, :channels] = torch.stack(kernels.statistics(buffer[:, :channels]))
    sums.zero_()
    units = []
    for index, layer in enumerate(layers):
        end = channels + index * growth
        unit = Unit(
            x=buffer[:, :end],
            batch=batch,
            sides=tuple(sides),
            moments=Moments(*moments[:, :end].clone()),
            scale=layer.scale.to(real),
            shift=layer.shift.to(real),
            epsilon=1e-5,
            weight=layer.weight.to(real),
        )
        made = kernels.forward(unit, buffer[:, end : end + growth], statistics=True)
        assert made is not None
        moments[:, end : end + growth] = torch.stack(made)
        units.append(unit)
    gradients, found = gradient.clone(), []
    for unit in reversed(units):
        end = unit.x.shape[1]
        made = slice(end, end + growth)
        correction = BatchNormGradCorrection(buffer[:, made], moments[0, made], sums[:, made], float(pixels))
        found[:0] = kernels.backward(
            unit, gradients[:, made], correction, gradients[:, :end], accumulate=True, sums=sums[:, :end]
        )
    x_gradient = torch.full((pixels, channels), math.nan, dtype=x.dtype)
    of_x = BatchNormGradCorrection(
        buffer[:, :channels], moments[0, :channels], sums[:, :channels], float(pixels)
    )
    kernels.apply_correction(gradients[:, :channels], of_x, x_gradient)
    return [buffer, x_gradient, *found]


@pytest.mark.parametrize(("batch", "sides", "channels", "growth"), [(3, (7, 5), 17, 5), (1, (9, 9), 3, 32)])
@every_dtype
@every_implementation
def test_units_make_a_dense_block(
    kernels: UnitKernels, dtype: torch.dtype, batch: int, sides: tuple[int, int], channels: int, growth: int
):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((batch, channels, *sides), generator=generator, dtype=torch.float64).to(dtype)
    gradient = torch.randn(
        (batch * math.prod(sides), channels + 2 * growth), generator=generator, dtype=torch.float64
    )
    real = accumulation_type(dtype)
    gradient = gradient.to(dtype)
    layers = [Parameters(*(tensor.to(real) for tensor in layer)) for layer in two_layers(channels, growth)]
    found = dense_block_by_kernels(kernels, x, layers, gradient)
    exact = dense_block_by_pytorch(
        x.double(), [Parameters(*(t.double() for t in layer)) for layer in layers], gradient.double()
    )
    pytorch = dense_block_by_pytorch(x, layers, gradient)
    # Rounding grows from layer to layer, and float64 has nothing more exact to be held against.
    floor = 4 * ROUNDINGS[dtype] * torch.finfo(dtype).eps
    names = ["features", "x"] + [f"{name} {layer}" for layer in (1, 2) for name in Parameters._fields]
    for name, ours, theirs, value in zip(names, found, pytorch, exact, strict=True):
        error, bound = relative_error(ours, value), 2 * relative_error(theirs, value) + floor
        assert error <= bound, f"{name}: error {error:.3g}, at most {bound:.3g}"


@every_implementation
def test_a_unit_is_left_as_it_is_by_its_caller(kernels: UnitKernels):
    """A copy with another weight computes with that weight: nothing is kept between calls."""
    example = make(SHAPES[0], torch.float32)
    out, other = poisoned(5, 3, torch.float32), poisoned(5, 3, torch.float32)
    kernels.forward(example.unit, out, statistics=False)
    kernels.forward(replace(example.unit, weight=2 * example.unit.weight), other, statistics=False)
    torch.testing.assert_close(other, 2 * out)
