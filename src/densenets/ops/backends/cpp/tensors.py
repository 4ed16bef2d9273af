"""Addresses of tensors for the C++ library, each checked for data type, shape, device and layout.

What is refused here is a bug of this package, never of its user; without the checks the library would read or
write memory that is not the tensor's. They are no asserts, so `python -O` leaves them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DATA_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
_SIZES = {torch.float32: 4, torch.float64: 8, torch.bfloat16: 2, torch.uint8: 1}


class Rows(NamedTuple):
    """Address, stride and shape of a matrix whose columns are contiguous.

    Attributes:
        address: of the first element.
        stride: elements from a row to the next.
        shape: rows and columns.
        size: bytes of an element.
    """

    address: int
    stride: int
    shape: tuple[int, int]
    size: int


def data_type(dtype: torch.dtype) -> int:
    """The number of a data type in the library.

    Raises:
        RuntimeError: the library does not compute in it.
    """
    if dtype not in DATA_TYPES:
        raise RuntimeError(f"a bug of densenets: the native kernels do not compute in {dtype}")
    return DATA_TYPES[dtype]


def arrays(tensors: Sequence[Tensor], dtype: torch.dtype, shape: tuple[int, ...]) -> list[int]:
    """The addresses of contiguous tensors, each of this data type and shape.

    Raises:
        RuntimeError: one is not such a tensor.
    """
    # A step passes hundreds of tensors here, so the checks are cheap ones.
    size, empty, addresses = _SIZES[dtype], 0 in shape, []
    for tensor in tensors:
        if tensor.dtype is dtype and tensor.is_cpu and tensor.is_contiguous() and tensor.shape == shape:
            address = tensor.data_ptr()
            if (address or empty) and not address % size:
                addresses.append(address)
                continue
        raise _refusal(tensor, dtype, shape, "without gaps")
    return addresses


def array(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """The address of a contiguous tensor of this data type and shape.

    Raises:
        RuntimeError: it is not such a tensor.
    """
    return arrays((tensor,), dtype, shape)[0]


def matrix(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, int]) -> Rows:
    """Address and stride of a matrix of this data type and shape; its rows may have gaps between them.

    Raises:
        RuntimeError: it is not such a tensor, or its rows overlap.
    """
    if tensor.dtype is dtype and tensor.is_cpu and tensor.shape == shape and tensor.layout is torch.strided:
        rows, columns = shape
        stride, step = tensor.stride()
        if rows <= 1:  # a single row needs no stride, and PyTorch's may be anything
            stride = columns
        address = tensor.data_ptr()
        if (
            (step == 1 or columns <= 1)
            and stride >= columns
            and (address or 0 in shape)
            and address % _SIZES[dtype] == 0
            and not tensor.is_neg()
        ):
            return Rows(address, stride, (rows, columns), _SIZES[dtype])
    raise _refusal(tensor, dtype, shape, "with its columns side by side")


def check_apart(written: Rows, *others: Rows) -> None:
    """Check that a written matrix shares no element with others; they may be other columns of one buffer.

    Raises:
        RuntimeError: it does.
    """
    for other in others:
        if _overlap(written, other):
            raise RuntimeError("a bug of densenets: the native kernels were to write what they read")


def whole(tensor: Tensor) -> Rows:
    """A contiguous tensor as one row."""
    count = tensor.numel()
    return Rows(tensor.data_ptr(), count, (1, count), tensor.element_size())


def _overlap(one: Rows, other: Rows) -> bool:
    if 0 in one.shape or 0 in other.shape:
        return False
    first, last = (one, other) if one.address <= other.address else (other, one)
    distance = last.address - first.address
    if distance >= _bytes(first):
        return False
    row = first.stride * first.size
    if row != last.stride * last.size:
        return True
    # Rows alternate without overlap unless a row of one ends behind the beginning of the other's next.
    place = distance % row
    return place < first.shape[1] * first.size or place + last.shape[1] * last.size > row


def _bytes(rows: Rows) -> int:
    return ((rows.shape[0] - 1) * rows.stride + rows.shape[1]) * rows.size


def _refusal(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], form: str) -> RuntimeError:
    given = f"{tensor.dtype}, {tuple(tensor.shape)}, on {tensor.device}"
    if tensor.layout is torch.strided:
        given += f", strides {tensor.stride()}"
    return RuntimeError(
        f"a bug of densenets: the native kernels were given a tensor of {given}, and take one of {dtype}, "
        f"{tuple(shape)}, on cpu, {form}, aligned and with memory of its own"
    )


def three_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """Depth, height and width of one, two or three sides; 1 for each that is absent."""
    return (*[1] * (3 - len(sides)), *sides)
