"""What is native about the native kernels: threads, memory of their own, the choice of instructions.

That they compute the right thing is tested beside PyTorch's operations, in `test_unit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from quick_tests import every
from torch import Tensor
from unit_checks import (
    check_accumulation,
    check_backward,
    check_batch_statistics,
    check_forward,
    check_stem,
    poisoned,
)
from units import (
    DTYPES,
    STEM_SHAPES,
    Example,
    Shape,
    first_columns,
    implementations_in_full,
    instruction_sets,
    label,
    make,
    stem_by_autograd,
)

from densenets.errors import InputError
from densenets.ops.backends.cpp import kernels as native
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import INSTRUCTION_SET_VARIABLE, load_library

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")
every_set = every("name", instruction_sets(), quick=lambda name: name in implementations_in_full())
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=label)

# One and several boxes, and fewer pixels than threads.
SHAPES = (
    Shape(2, (7, 5), 37, 17, kernel=3),
    Shape(1, (40, 41), 5, 3, kernel=3),
    Shape(3, (11, 10), 37, 5),
    Shape(2, (20, 21), 5, 17, pool=True),
    Shape(3, (7, 7), 37, 12, kernel=3, drop=True),
    Shape(2, (3, 5, 7), 5, 12, kernel=3),
    Shape(5, (1, 1), 5, 3),
)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_openmp() -> Iterator[None]:
    """Threads that the library starts itself, as where PyTorch has no OpenMP runtime."""
    load_library().functions.densenets_use_runtime(None)
    try:
        yield
    finally:
        native._library_with_threads.cache_clear()
        CppKernels()


def everything(kernels: CppKernels, example: Example) -> list[Tensor]:
    """All that a unit makes."""
    unit, correction = example.unit, example.correction
    moments = kernels.statistics(unit.x)
    out = poisoned(unit.out_pixels, unit.weight.shape[0], unit.x.dtype)
    of_out = kernels.forward(unit, out, statistics=True)
    assert of_out is not None
    x_gradient, sums = first_columns(example.before, 3, 0.0), example.sums.clone()
    found = kernels.backward(unit, example.gradient, correction, x_gradient, accumulate=True, sums=sums)
    completed = poisoned(unit.out_pixels, unit.weight.shape[0], unit.x.dtype)
    kernels.apply_correction(example.gradient, correction, completed)
    return [*moments, out.clone(), *of_out, x_gradient.clone(), sums, *found, completed.clone()]


def assert_same_bits(some: list[Tensor], others: list[Tensor]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("threads", [1, 2])
@every_shape
@every_dtype
@every_set
def test_same_bits_again_and_again(name: str, dtype: torch.dtype, shape: Shape, threads: int):
    example, kernels = make(shape, dtype), CppKernels(name)
    with on_threads(threads):
        first = everything(kernels, example)
        for _ in range(4):
            assert_same_bits(everything(kernels, example), first)


@every("threads", (2, 3, 8), quick=lambda threads: threads == 3)
@every_shape
@every_dtype
@every_set
def test_right_on_any_number_of_threads(name: str, dtype: torch.dtype, shape: Shape, threads: int):
    kernels = CppKernels(name)
    with on_threads(threads):
        for check in (check_forward, check_backward, check_accumulation, check_batch_statistics):
            check(kernels, shape, dtype)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", STEM_SHAPES, ids=str)
@every_dtype
@every_set
def test_stem(name: str, dtype: torch.dtype, shape: Shape, threads: int):
    with on_threads(threads):
        check_stem(CppKernels(name), shape, dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@every_dtype
@every_set
def test_nan_and_infinity_come_out_of_a_stem(name: str, dtype: torch.dtype, value: float):
    example = make(Shape(1, (5, 5), 17, 0, kernel=3), dtype)
    example.unit.x[12, 3] = value  # in the middle: of one window alone
    out, winners = poisoned(9, 17, dtype), torch.full((9, 17), 255, dtype=torch.uint8)
    CppKernels(name).stem_forward(example.unit, out, winners)
    exact = stem_by_autograd(example, "constants", torch.float64)["result"]
    assert torch.equal(out.isnan(), exact.isnan())
    assert torch.equal(out.isinf(), exact.isinf())
    assert (winners < 9).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
@every_dtype
def test_own_threads_give_the_bits_of_openmp(dtype: torch.dtype, shape: Shape, threads: int):
    example, kernels = make(shape, dtype), CppKernels()
    with on_threads(threads):
        expected = everything(kernels, example)
        with without_openmp():
            found = everything(kernels, example)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
@every_dtype
@every_set
def test_nothing_stays_in_the_memory_between_calls(name: str, dtype: torch.dtype, shape: Shape, threads: int):
    """Memory is kept for the next call: NaN of a larger unit in it must not come out of a smaller one."""
    example, kernels = make(shape, dtype), CppKernels(name)
    nan = make(Shape(2, (41, 41), 130, 70, shape.kernel), dtype)
    nan.unit.x.fill_(math.nan)
    nan.gradient.fill_(math.nan)
    with on_threads(threads):
        expected = everything(kernels, example)
        everything(kernels, nan)
        assert_same_bits(everything(kernels, example), expected)


@every_dtype
@every_set
def test_rows_may_lie_far_apart(name: str, dtype: torch.dtype):
    """A matrix of one column has no stride between columns that could be asked for."""
    shape = Shape(3, (5, 4), 1, 1, kernel=3)
    for check in (check_forward, check_backward, check_accumulation, check_batch_statistics):
        check(CppKernels(name), shape, dtype, margin=29)


def test_the_best_instruction_set_is_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(INSTRUCTION_SET_VARIABLE, raising=False)
    example = make(SHAPES[0], torch.bfloat16)
    best = everything(CppKernels(instruction_sets()[-1]), example)
    assert_same_bits(everything(CppKernels(), example), best)


@every_set
def test_the_environment_chooses_an_instruction_set(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(INSTRUCTION_SET_VARIABLE, name)
    example = make(SHAPES[0], torch.bfloat16)
    assert_same_bits(everything(CppKernels(), example), everything(CppKernels(name), example))


def test_instruction_sets_differ():
    """Else the choice above would say nothing: registers of another width add up in another order."""
    if len(instruction_sets()) == 1:
        pytest.skip("this machine has one instruction set")
    example = make(SHAPES[0], torch.float32)
    portable = everything(CppKernels(instruction_sets()[0]), example)
    best = everything(CppKernels(instruction_sets()[-1]), example)
    assert not all(torch.equal(one, other) for one, other in zip(portable, best, strict=True))


def test_an_instruction_set_that_the_machine_lacks():
    with pytest.raises(InputError, match=rf"this machine runs {', '.join(instruction_sets())}, not 'mmx'"):
        CppKernels("mmx")


@every_set
def test_expected_memory_is_still_what_it_was(name: str):
    """From 4 MiB on the system is asked for large pages, which changes no value."""
    for size in (0, 1, 1000, 3_000_001):
        memory = torch.arange(size, dtype=torch.float32)
        CppKernels(name).advise_huge_pages(memory, memory[: size // 2])
        assert torch.equal(memory, torch.arange(size, dtype=torch.float32))


@every_dtype
@every_set
def test_peak_is_a_rate(name: str, dtype: torch.dtype):
    peak = CppKernels(name).peak(dtype, threads=1, seconds=0.001)
    assert math.isfinite(peak)
    assert peak > 0
