"""Arguments that a call cannot have are refused by the library itself; images without pixels are not."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from units import DTYPES, Example, Shape, instruction_sets, make

from densenets.ops.backends.cpp import interface
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import load_library

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")

IN_TILES = Shape(2, (7, 5), 37, 17, kernel=3)
POOLED = Shape(2, (8, 6), 37, 17, pool=True)
LINE = Shape(3, (13,), 17, 12, kernel=3)
STEM = Shape(3, (7, 5), 17, 0, kernel=3)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"data_type": 3}, "data_type is out of range"),
        ({"data_type": -1}, "data_type is out of range"),
        ({"threads": 0}, "threads is out of range"),
        ({"threads": -5}, "threads is out of range"),
        ({"threads": 1 << 30}, "threads is out of range"),
        ({"batch": -1}, "batch is out of range"),
        ({"batch": 1 << 40}, "batch is out of range"),
        ({"sides": (1, -7, 5)}, "side is out of range"),
        ({"sides": (1 << 20, 1 << 20, 1 << 20)}, "batch of these sides has too many pixels"),
        ({"taps": (1, 2, 3)}, "kernel must have sides of 1 or 3"),
        ({"taps": (0, 3, 3)}, "kernel must have sides of 1 or 3"),
        ({"pool": 1}, "pooling needs a kernel of one tap"),
        ({"pool": 2}, "pool is out of range"),
        ({"in_channels": 0}, "in_channels is out of range"),
        ({"in_channels": -3}, "in_channels is out of range"),
        ({"out_channels": 0}, "out_channels is out of range"),
        ({"out_channels": 1 << 40}, "out_channels is out of range"),
        ({"input": None}, "input is missing"),
        ({"input_stride": 36}, "input has rows that overlap"),
        ({"input_stride": 1 << 60}, "input has rows too far apart"),
        ({"mean": None}, "mean is missing"),
        ({"variance": None}, "variance is missing"),
        ({"scale": None}, "scale is missing"),
        ({"shift": None}, "shift is missing"),
        ({"weight": None}, "weight is missing"),
        ({"output": None}, "output is missing"),
        ({"output_stride": 16}, "output has rows that overlap"),
        ({"output_mean": None}, "moments must be two or none"),
    ],
    ids=str,
)
def test_a_unit_that_cannot_be(fields: dict[str, Any], reason: str):
    call = unit_struct(make(IN_TILES, torch.float32))
    for name, value in fields.items():
        setattr(call, name, value)
    with pytest.raises(RuntimeError, match=f"densenets_forward: {reason}"):
        load_library().functions.densenets_forward(0, ctypes.byref(call))


def test_the_unit_of_these_tests_can_be():
    load_library().functions.densenets_forward(0, ctypes.byref(unit_struct(make(IN_TILES, torch.float32))))


_KEPT: list[Tensor] = []  # a struct holds addresses alone


def unit_struct(example: Example) -> interface.Unit:
    unit, out, moments = example.unit, torch.empty(70, 17), torch.empty(2, 17)
    _KEPT[:] = [unit.x, *unit.moments, unit.scale, unit.shift, unit.weight, out, moments]
    return interface.Unit(
        data_type=0,
        threads=1,
        batch=2,
        sides=(1, 7, 5),
        taps=(1, 3, 3),
        in_channels=37,
        out_channels=17,
        input=unit.x.data_ptr(),
        input_stride=unit.x.stride(0),
        mean=unit.moments.mean.data_ptr(),
        variance=unit.moments.variance.data_ptr(),
        scale=unit.scale.data_ptr(),
        shift=unit.shift.data_ptr(),
        epsilon=unit.epsilon,
        weight=unit.weight.data_ptr(),
        output=out.data_ptr(),
        output_stride=17,
        output_mean=moments[0].data_ptr(),
        output_variance=moments[1].data_ptr(),
    )


@pytest.mark.parametrize("index", [-1, 5, 1 << 30])
def test_an_instruction_set_that_there_is_not(index: int):
    functions = load_library().functions
    call = unit_struct(make(IN_TILES, torch.float32))
    with pytest.raises(RuntimeError, match="instruction_set is none that this machine runs"):
        functions.densenets_forward(index, ctypes.byref(call))
    assert functions.densenets_instruction_set_name(index) is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": 3}, "units is out of range"),
        ({"layers": -1}, "layers is out of range"),
        ({"layers": 2}, "parts are missing"),
        ({"channels": 0}, "channels is out of range"),
        ({"in_channels": 4}, "channels are not those of the input and the layers"),
        ({"features": None}, "features is missing"),
        ({"threads": 0}, "threads is out of range"),
    ],
    ids=str,
)
def test_a_block_that_cannot_be(fields: dict[str, Any], reason: str):
    features = torch.zeros(6, 5)
    call = interface.Block(
        threads=1, batch=1, sides=(1, 2, 3), units=1, in_channels=5, channels=5, features=features.data_ptr()
    )
    load_library().functions.densenets_block_forward(0, ctypes.byref(call))  # no layers, nothing to do
    for name, value in fields.items():
        setattr(call, name, value)
    with pytest.raises(RuntimeError, match=f"densenets_block_forward: {reason}"):
        load_library().functions.densenets_block_forward(0, ctypes.byref(call))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [IN_TILES, POOLED, LINE], ids=str)
def test_images_that_there_are_not(shape: Shape, dtype: torch.dtype):
    """A batch of none: means of nothing are NaN, gradients are zero."""
    example = make(shape, dtype)
    unit = replace(example.unit, x=example.unit.x[:0], batch=0)
    kernels, none = CppKernels(), example.gradient[:0]
    found = kernels.forward(unit, torch.empty(0, shape.made, dtype=dtype), statistics=True)
    assert found is not None
    for moments in (found, kernels.statistics(unit.x)):
        assert moments.mean.isnan().all()
        assert moments.variance.isnan().all()
    sums = torch.ones_like(example.sums)
    x_gradient = torch.empty(0, shape.channels, dtype=dtype)
    gradients = kernels.backward(unit, none, None, x_gradient, accumulate=False, sums=sums)
    for gradient in gradients:
        assert torch.equal(gradient, torch.zeros_like(gradient))
    assert torch.equal(sums, torch.ones_like(sums))
    kernels.apply_correction(none, example.correction._replace(result=none, pixels=0), torch.empty_like(none))


def test_a_stem_of_images_that_there_are_not():
    example = make(STEM, torch.float32)
    unit = replace(example.unit, x=example.unit.x[:0], batch=0)
    none, winners = torch.empty(0, 17), torch.empty(0, 17, dtype=torch.uint8)
    CppKernels().stem_forward(unit, none, winners)
    found = CppKernels().stem_backward(unit, none, winners, torch.empty(0, 17), batch_statistics=True)
    assert not found.scale.any()
    assert not found.shift.any()
