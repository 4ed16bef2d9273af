"""What every implementation of the unit must do, checked on one shape; see `units` for the shapes and facts.

The tolerance: an implementation's error against float64, of the whole tensor, is at most twice that of
PyTorch's own operations in the same type. PyTorch's may be next to nothing by luck where a tensor has few
values, so some roundings are always allowed; see `ROUNDINGS`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from units import (
    MARGIN,
    SENTINEL,
    Example,
    Form,
    Shape,
    by_autograd,
    columns,
    expected,
    first_columns,
    make,
    outside,
    relative_errors,
    stem_by_autograd,
    stem_gradient,
)

from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.unit import BatchNormGradCorrection, Unit, UnitKernels

# In units of the type's eps. A sum of n terms, one after the other, is some sqrt(n) / 6 roundings off, and n
# is up to 1,640 here; in float64 both sides round. With 16 bits the sums are float32's: half an eps is the
# one rounding of an operand that PyTorch makes as well, and a tile sums 5 of them for each 3 of a row.
ROUNDINGS = {torch.float32: 8.0, torch.float64: 24.0, torch.bfloat16: 0.5 * 5 / 3, torch.float16: 0.5}


def check_forward(kernels: UnitKernels, shape: Shape, dtype: torch.dtype, margin: int = MARGIN) -> None:
    """Result and moments, of constants."""
    example = make(shape, dtype, margin=margin)
    before = _copies(example)
    out = poisoned(example.unit.out_pixels, shape.made, dtype, margin)
    moments = kernels.forward(example.unit, out, statistics=True)
    assert moments is not None
    found = {"result": out, "mean": moments.mean, "variance": moments.variance}
    if example.unit.out_pixels == 1:
        # The variance of one value is zero: relative to nothing.
        assert found.pop("variance").abs().max() == 0, "one pixel varies"
    assert_as_exact_as_pytorch(found, shape, dtype, "constants")
    assert_untouched(out)
    assert_unchanged(example, before)
    without = poisoned(example.unit.out_pixels, shape.made, dtype, margin)
    assert kernels.forward(example.unit, without, statistics=False) is None
    assert torch.equal(without, out), "statistics change the result"


def check_backward(kernels: UnitKernels, shape: Shape, dtype: torch.dtype, margin: int = MARGIN) -> None:
    """All gradients, written to poisoned memory, of a complete gradient; statistics are constants."""
    example = make(shape, dtype, margin=margin)
    before = _copies(example)
    x_gradient = poisoned_gradient(example.unit, margin)
    found = kernels.backward(example.unit, example.gradient, None, x_gradient, accumulate=False, sums=None)
    values = {"x": x_gradient, **found._asdict()}
    assert_as_exact_as_pytorch(values, shape, dtype, "constants")
    assert_untouched(x_gradient)
    assert_unchanged(example, before)


def check_accumulation(kernels: UnitKernels, shape: Shape, dtype: torch.dtype, margin: int = MARGIN) -> None:
    """The gradient is completed on the way in; that of x and the sums are added to what is there."""
    example = make(shape, dtype, "completed", margin)
    before = _copies(example)
    x_gradient, sums = first_columns(example.before, margin, SENTINEL), example.sums.clone()
    found = kernels.backward(
        example.unit, example.gradient, example.correction, x_gradient, accumulate=True, sums=sums
    )
    values = {"x added": x_gradient, "sums added": sums, **found._asdict()}
    assert_as_exact_as_pytorch(values, shape, dtype, "completed")
    assert_untouched(x_gradient)
    assert_unchanged(example, before)


def check_batch_statistics(
    kernels: UnitKernels, shape: Shape, dtype: torch.dtype, margin: int = MARGIN
) -> None:
    """A step of training by one unit: statistics, forward, backward, and what completes the gradient of x."""
    example = make(shape, dtype, "batch", margin)
    unit = replace(example.unit, moments=kernels.statistics(example.unit.x))
    out = poisoned(unit.out_pixels, shape.made, dtype, margin)
    moments = kernels.forward(unit, out, statistics=True)
    assert moments is not None
    raw, sums = poisoned_gradient(unit, margin), torch.zeros_like(example.sums)
    found = kernels.backward(unit, example.gradient, None, raw, accumulate=False, sums=sums)
    correction = BatchNormGradCorrection(unit.x, unit.moments.mean, sums, float(shape.pixels))
    x_gradient = poisoned(shape.pixels, shape.channels, dtype, margin)
    kernels.apply_correction(raw, correction, x_gradient)
    values = {"result": out, "mean": moments.mean, "x": x_gradient, **found._asdict()}
    assert_as_exact_as_pytorch(values, shape, dtype, "batch")
    assert_untouched(x_gradient)


def check_stem(kernels: CppKernels, shape: Shape, dtype: torch.dtype, margin: int = MARGIN) -> None:
    """BN-ReLU-max pooling: maxima and gradients, by constants and by the batch."""
    for form in ("constants", "batch"):
        example = make(shape, dtype, form, margin)
        unit = example.unit
        if form == "batch":
            unit = replace(unit, moments=kernels.statistics(unit.x))
        gradient = stem_gradient(example)
        out = poisoned(gradient.shape[0], shape.channels, dtype, margin)
        winners = torch.full(gradient.shape, 255, dtype=torch.uint8)
        kernels.stem_forward(unit, out, winners)
        x_gradient = poisoned(shape.pixels, shape.channels, dtype, margin)
        found = kernels.stem_backward(
            unit, columns(gradient, margin, math.nan), winners, x_gradient, batch_statistics=form == "batch"
        )
        values = {"result": out, "x": x_gradient, "scale": found.scale, "shift": found.shift}
        exact = stem_by_autograd(example, form, torch.float64)
        pytorch = relative_errors(stem_by_autograd(example, form, dtype), exact)
        floor = ROUNDINGS[dtype] * torch.finfo(dtype).eps
        for name, error in relative_errors(values, exact).items():
            bound = 2 * pytorch[name] + floor
            assert error <= bound, f"{name} of {form}: error {error:.3g}, PyTorch's own {pytorch[name]:.3g}"
        assert_untouched(out)
        assert_untouched(x_gradient)


def poisoned(rows: int, count: int, dtype: torch.dtype, margin: int = MARGIN) -> Tensor:
    """NaN where something must be written, sentinels on either side of it."""
    return columns(torch.full((rows, count), math.nan, dtype=dtype), margin, SENTINEL)


def poisoned_gradient(unit: Unit, margin: int = MARGIN) -> Tensor:
    """Of x: NaN, but zero where pooling drops pixels at the end of an odd side: nothing is written there."""
    left_out = unit.pool and any(side % 2 for side in unit.sides)
    values = torch.full(unit.x.shape, 0.0 if left_out else math.nan, dtype=unit.x.dtype)
    return first_columns(values, margin, SENTINEL)


def assert_as_exact_as_pytorch(
    found: dict[str, Tensor], shape: Shape, dtype: torch.dtype, form: Form
) -> None:
    """See the tolerance above; NaN is never within it."""
    known = expected(shape, dtype, form)
    floor = ROUNDINGS[dtype] * torch.finfo(dtype).eps
    for name, error in relative_errors(found, known.exact).items():
        assert found[name].shape == known.exact[name].shape, name
        bound = 2 * known.pytorch[name] + floor
        assert error <= bound, f"{name}: error {error:.3g}, PyTorch's own {known.pytorch[name]:.3g}"


def assert_untouched(matrix: Tensor) -> None:
    """Neighbouring columns are what they were."""
    assert (outside(matrix) == SENTINEL).all(), "columns beside the result were written"


def _copies(example: Example) -> list[Tensor]:
    return [tensor.clone() for tensor in _inputs(example)]


def _inputs(example: Example) -> list[Tensor]:
    unit, correction = example.unit, example.correction
    tensors = [unit.x, *unit.moments, unit.scale, unit.shift, unit.weight, example.gradient, *correction[:3]]
    return tensors if unit.dropout_mask is None else [*tensors, unit.dropout_mask]


def assert_unchanged(example: Example, copies: list[Tensor]) -> None:
    """What is only read is what it was."""
    for tensor, copy in zip(_inputs(example), copies, strict=True):
        assert torch.equal(tensor, copy), "an input was written to"


def check_unusual_value(kernels: UnitKernels, shape: Shape, dtype: torch.dtype, value: float) -> None:
    """NaN or infinity in the middle of an image comes out wherever PyTorch's comes out, and nowhere else.

    What dropout drops may be zero or, as a product with zero, NaN. A kernel in tiles may make NaN of an
    infinity, and of what shares a tile with it.
    """
    example = make(shape, dtype)
    middle = torch.tensor([side // 2 for side in shape.sides])
    row = int(torch.arange(shape.pixels).view(shape.batch, *shape.sides)[(0, *middle.tolist())])
    example.unit.x[row, shape.channels // 2] = value
    exact = by_autograd(example, "constants", torch.float64)
    out = poisoned(example.unit.out_pixels, shape.made, dtype)
    kernels.forward(example.unit, out, statistics=False)
    x_gradient = poisoned_gradient(example.unit)
    found = kernels.backward(example.unit, example.gradient, None, x_gradient, accumulate=False, sums=None)
    if example.unit.dropout_mask is not None:
        for result in (out, exact["result"]):
            result.masked_fill_(example.unit.dropout_mask == 0, 0)
    in_tiles = isinstance(kernels, CppKernels) and shape.kernel == 3 and len(shape.sides) > 1
    for name, tensor in {"result": out, "x": x_gradient, **found._asdict()}.items():
        if not in_tiles:
            assert torch.equal(_kinds(tensor), _kinds(exact[name])), f"{name}: {value} is elsewhere"
            continue
        assert not (tensor.isfinite() & ~exact[name].isfinite()).any(), f"{name}: {value} is lost"
        if name in ("result", "x"):
            pixels = torch.cartesian_prod(*(torch.arange(side) for side in shape.sides))
            far = ((pixels - middle).abs().amax(dim=1) > 2).repeat(shape.batch)
            far[shape.pixels // shape.batch :] = True
            assert tensor[far].isfinite().all(), f"{name}: {value} is elsewhere"


def _kinds(tensor: Tensor) -> Tensor:
    """3 for NaN, 2 and 1 for the infinities, 0 for numbers."""
    return tensor.isnan() * 3 + tensor.isposinf() * 2 + tensor.isneginf() * 1
