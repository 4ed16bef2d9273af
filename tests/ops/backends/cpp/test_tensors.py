"""Tensors on their way into the library: whatever it would misread is refused, by every method."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from units import Shape, instruction_sets, make, stem_gradient

from densenets.ops.backends.cpp import tensors
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.tensors import array, check_apart, matrix, whole
from densenets.ops.backends.unit import BatchNormGradCorrection, Unit

built = pytest.mark.skipif(not instruction_sets(), reason="the native kernels were not built")
SHAPE = Shape(3, (7, 7), 37, 12, kernel=3, drop=True)
REFUSED = "a bug of densenets: the native kernels were given a tensor of"


def fake(tensor: Tensor) -> Tensor:
    with FakeTensorMode():
        return torch.empty(tensor.shape, dtype=tensor.dtype)


def misaligned(tensor: Tensor) -> Tensor:
    size = tensor.numel() * tensor.element_size()
    memory = torch.zeros(size + 16, dtype=torch.uint8)
    return torch.frombuffer(memory.numpy(), dtype=tensor.dtype, offset=1, count=tensor.numel()).view(
        tensor.shape
    )


# What is wrong with a tensor, in ways that every tensor can be wrong in.
WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "type": lambda t: t.to(torch.float16 if t.dtype != torch.uint8 else torch.int8),
    "wider type": lambda t: t.to(torch.float64 if t.dtype != torch.uint8 else torch.int16),
    "device": lambda t: t.to("meta"),
    "fake": fake,
    "longer": lambda t: torch.cat([t, t]),
    "shorter": lambda t: t[1:],
    "dimensions": lambda t: t[None],
    "sparse": lambda t: t.to_sparse(),
    "gaps": lambda t: t.repeat_interleave(2, dim=-1)[..., ::2] if t.dim() else t,
    "expanded": lambda t: t[:1].expand(t.shape),
}
every_wrong = pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
# The warning of a fake tensor that it is asked for its address.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@every_wrong
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 3, 3)], ids=str)
def test_an_array_that_is_not_what_it_is_taken_for(shape: tuple[int, ...], wrong: Callable[[Tensor], Tensor]):
    tensor = torch.zeros(shape)
    assert array(tensor, torch.float32, shape) == tensor.data_ptr()
    with pytest.raises(RuntimeError, match=REFUSED):
        array(wrong(tensor), torch.float32, shape)


@every_wrong
def test_a_matrix_that_is_not_what_it_is_taken_for(wrong: Callable[[Tensor], Tensor]):
    tensor = torch.zeros(4, 3)
    assert matrix(tensor, torch.float32, (4, 3)).address == tensor.data_ptr()
    with pytest.raises(RuntimeError, match=REFUSED):
        matrix(wrong(tensor), torch.float32, (4, 3))


def test_memory_that_is_not_aligned():
    tensor = misaligned(torch.zeros(4, 3))
    with pytest.raises(RuntimeError, match=REFUSED):
        array(tensor, torch.float32, (4, 3))
    with pytest.raises(RuntimeError, match=REFUSED):
        matrix(tensor, torch.float32, (4, 3))


def test_values_that_are_negative_by_a_flag():
    with pytest.raises(RuntimeError, match=REFUSED):
        matrix(torch._neg_view(torch.ones(4, 3)), torch.float32, (4, 3))


def test_a_tensor_under_a_transform():
    def address(row: Tensor) -> Tensor:
        array(row, torch.float32, (3,))
        return row

    with pytest.raises(RuntimeError, match="data pointer"):
        torch.vmap(address)(torch.zeros(4, 3))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)], ids=str)
def test_nothing_needs_no_memory(shape: tuple[int, ...]):
    array(torch.zeros(shape), torch.float32, shape)
    if len(shape) == 2:
        matrix(torch.zeros(shape), torch.float32, shape)


def test_a_matrix_may_be_columns_of_another():
    wide = torch.zeros(4, 10)
    assert matrix(wide[:, 2:5], torch.float32, (4, 3))[:2] == (wide.data_ptr() + 8, 10)
    assert matrix(wide[:, 2:3], torch.float32, (4, 1)).stride == 10
    # Of a single row no stride is to be believed.
    assert matrix(torch.zeros(3, 1).t().as_strided((1, 3), (1, 1)), torch.float32, (1, 3)).stride == 3


def test_columns_in_turn_are_apart():
    wide = torch.zeros(4, 10)

    def columns(begin: int, end: int, rows: slice = slice(None)) -> tensors.Rows:
        part = wide[rows, begin:end]
        return matrix(part, torch.float32, (part.shape[0], part.shape[1]))

    check_apart(columns(0, 3), columns(3, 10), columns(5, 6), whole(torch.zeros(4, 3)))
    check_apart(columns(0, 10, slice(0, 2)), columns(0, 10, slice(2, 4)))
    check_apart(columns(7, 10, slice(0, 3)), columns(0, 7, slice(1, 4)))
    check_apart(columns(2, 4), matrix(torch.zeros(0, 3), torch.float32, (0, 3)))
    for other in (columns(2, 4), columns(0, 1), columns(2, 3, slice(3, 4)), whole(wide)):
        for pair in ((columns(0, 3), other), (other, columns(0, 3))):
            with pytest.raises(RuntimeError, match="were to write what they read"):
                check_apart(*pair)
    with pytest.raises(RuntimeError, match="were to write what they read"):
        check_apart(columns(7, 10, slice(0, 3)), columns(0, 8, slice(1, 4)))


def with_part(unit: Unit, part: str, change: Callable[[Tensor], Tensor]) -> Unit:
    """The unit with one of its tensors changed."""
    if part in ("mean", "variance"):
        return replace(unit, moments=unit.moments._replace(**{part: change(getattr(unit.moments, part))}))
    return replace(unit, **{part: change(getattr(unit, part))})


OWN_TYPE = [
    "mean",
    "variance",
    "scale",
    "shift",
    "weight",
]  # these come in any floating-point type and layout
CONVERTED = ("type", "wider type", "gaps", "expanded")


@built
@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        pytest.param(part, wrong, id=f"{part}-{name}")
        for part in ("x", *OWN_TYPE, "dropout_mask", "out")
        for name, wrong in WRONG.items()
        if part not in OWN_TYPE or name not in CONVERTED
    ],
)
def test_every_tensor_of_a_unit_is_looked_at(part: str, wrong: Callable[[Tensor], Tensor]):
    unit, out = make(SHAPE, torch.float32).unit, torch.empty(147, 12)
    if part == "out":
        out = wrong(out)
    else:
        unit = with_part(unit, part, wrong)
    with pytest.raises((RuntimeError, ValueError)):
        CppKernels().forward(unit, out, statistics=False)


@built
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("part", OWN_TYPE)
def test_parameters_come_in_their_own_type_and_layout(part: str, dtype: torch.dtype):
    def with_gaps(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).repeat_interleave(2, dim=-1)[..., ::2]

    unit = make(SHAPE, torch.float32).unit
    found, expected = torch.empty(147, 12), torch.empty(147, 12)
    CppKernels().forward(with_part(unit, part, with_gaps), found, statistics=False)
    rounded = with_part(unit, part, lambda tensor: tensor.to(dtype).float())
    CppKernels().forward(rounded, expected, statistics=False)
    assert torch.equal(found, expected)


@built
@every_wrong
@pytest.mark.parametrize("part", ["gradient", "result", "mean", "correction sums", "x_gradient", "sums"])
def test_every_tensor_of_a_backward_pass_is_looked_at(part: str, wrong: Callable[[Tensor], Tensor]):
    example = make(SHAPE, torch.float32)
    given = {
        "gradient": example.gradient,
        "result": example.correction.result,
        "mean": example.correction.mean,
        "correction sums": example.correction.sums,
        "x_gradient": torch.zeros(147, 37),
        "sums": example.sums,
    }
    given[part] = wrong(given[part])
    gradient, result, mean, completion_sums, x_gradient, sums = given.values()
    correction = BatchNormGradCorrection(result, mean, completion_sums, 147.0)
    with pytest.raises((RuntimeError, ValueError)):
        CppKernels().backward(example.unit, gradient, correction, x_gradient, accumulate=True, sums=sums)


@built
def test_what_is_read_is_not_written():
    example = make(SHAPE, torch.float32)
    kernels, x = CppKernels(), example.unit.x
    same = make(Shape(3, (7, 7), 12, 12, kernel=3), torch.float32).unit
    with pytest.raises(RuntimeError, match="were to write what they read"):
        kernels.forward(same, same.x, statistics=False)
    for other in (x, example.gradient.new_zeros(147, 37)):
        gradient = other[:, :12] if other is not x else example.gradient
        with pytest.raises(RuntimeError, match="were to write what they read"):
            kernels.backward(example.unit, gradient, None, other, accumulate=False, sums=None)
    correction = example.correction
    with pytest.raises(RuntimeError, match="were to write what they read"):
        kernels.apply_correction(example.gradient, correction, correction.result)


@built
def test_a_gradient_is_completed_in_its_place():
    example = make(SHAPE, torch.float32)
    expected = torch.empty(147, 12)
    CppKernels().apply_correction(example.gradient, example.correction, expected)
    CppKernels().apply_correction(example.gradient, example.correction, example.gradient)
    assert torch.equal(example.gradient, expected)


@built
def test_pooling_a_side_of_one_pixel():
    unit: Unit = replace(make(Shape(5, (1, 1), 5, 3), torch.float32).unit, pool=True)
    with pytest.raises(RuntimeError, match="pool a side of one pixel"):
        CppKernels().forward(unit, torch.empty(0, 3), statistics=False)


@built
@every_wrong
@pytest.mark.parametrize("part", ["out", "winners", "gradient", "x_gradient"])
def test_every_tensor_of_a_stem_is_looked_at(part: str, wrong: Callable[[Tensor], Tensor]):
    example = make(Shape(3, (7, 5), 17, 0, kernel=3), torch.float32)
    gradient = stem_gradient(example)
    given = {
        "out": torch.empty(gradient.shape),
        "winners": torch.zeros(gradient.shape, dtype=torch.uint8),
        "gradient": gradient,
        "x_gradient": torch.empty(105, 17),
    }
    given[part] = wrong(given[part])
    out, winners, gradient, x_gradient = given.values()
    kernels = CppKernels()
    calls: dict[bool, Callable[[], object]] = {
        True: lambda: kernels.stem_forward(example.unit, out, winners),
        False: lambda: kernels.stem_backward(
            example.unit, gradient, winners, x_gradient, batch_statistics=True
        ),
    }
    with pytest.raises(RuntimeError):
        calls[part in ("out", "winners")]()


def test_addresses_are_asked_for_in_one_place():
    folder = Path(tensors.__file__).parent
    askers = {path.name for path in folder.glob("*.py") if re.search(r"\bdata_ptr\b", path.read_text())}
    assert askers == {"tensors.py"}


@pytest.mark.slow
def test_no_check_is_an_assertion():
    """`python -O` leaves assertions out."""
    code = f"""
import torch
from densenets.ops.backends.cpp.tensors import array
try:
    array(torch.zeros(3), torch.float64, (3,))
except RuntimeError as error:
    print(str(error).startswith({REFUSED!r}))
"""
    command = [sys.executable, "-O", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
    for path in Path(tensors.__file__).parent.glob("*.py"):
        assert not re.search(r"^\s*assert\b", path.read_text(), re.MULTILINE), path.name
