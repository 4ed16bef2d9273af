"""ctypes declarations of interface.h: structs, functions, and exceptions for failures. Needs no PyTorch."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Iterator
from typing import Any

INTERFACE_VERSION = 2  # kInterfaceVersion
_DONE, _NO_MEMORY = 0, 2  # of Status


class Unit(ctypes.Structure):
    """`Unit` of interface.h, which says what each field is."""

    _fields_ = [
        ("data_type", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        ("sides", ctypes.c_int64 * 3),
        ("taps", ctypes.c_int32 * 3),
        ("pool", ctypes.c_int32),
        ("in_channels", ctypes.c_int64),
        ("out_channels", ctypes.c_int64),
        ("input", ctypes.c_void_p),
        ("input_stride", ctypes.c_int64),
        ("mean", ctypes.c_void_p),
        ("variance", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("epsilon", ctypes.c_double),
        ("weight", ctypes.c_void_p),
        ("dropout_mask", ctypes.c_void_p),
        ("dropout_scale", ctypes.c_double),
        ("output", ctypes.c_void_p),
        ("output_stride", ctypes.c_int64),
        ("output_mean", ctypes.c_void_p),
        ("output_variance", ctypes.c_void_p),
        ("output_gradient", ctypes.c_void_p),
        ("output_gradient_stride", ctypes.c_int64),
        ("result", ctypes.c_void_p),
        ("result_stride", ctypes.c_int64),
        ("result_mean", ctypes.c_void_p),
        ("result_sum_1", ctypes.c_void_p),
        ("result_sum_2", ctypes.c_void_p),
        ("result_count", ctypes.c_double),
        ("input_gradient", ctypes.c_void_p),
        ("input_gradient_stride", ctypes.c_int64),
        ("accumulate", ctypes.c_int32),
        ("weight_gradient", ctypes.c_void_p),
        ("scale_gradient", ctypes.c_void_p),
        ("shift_gradient", ctypes.c_void_p),
        ("sum_1", ctypes.c_void_p),
        ("sum_2", ctypes.c_void_p),
    ]


class BlockUnit(ctypes.Structure):
    """`BlockUnit` of interface.h, which says what each field is."""

    _fields_ = [
        ("taps", ctypes.c_int32 * 3),
        ("out_channels", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("variance", ctypes.c_void_p),
        ("dropout_mask", ctypes.c_void_p),
        ("scale_gradient", ctypes.c_void_p),
        ("shift_gradient", ctypes.c_void_p),
        ("weight_gradient", ctypes.c_void_p),
    ]


class Block(ctypes.Structure):
    """`Block` of interface.h, which says what each field is."""

    _fields_ = [
        ("data_type", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        ("sides", ctypes.c_int64 * 3),
        ("units", ctypes.c_int32),
        ("layers", ctypes.c_int64),
        ("in_channels", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("dropout_scale", ctypes.c_double),
        ("parts", ctypes.POINTER(BlockUnit)),
        ("features", ctypes.c_void_p),
        ("bottlenecks", ctypes.c_void_p),
        ("keep_bottlenecks", ctypes.c_int32),
        ("feature_moments", ctypes.c_void_p),
        ("bottleneck_moments", ctypes.c_void_p),
        ("gradients", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("bottleneck_gradient", ctypes.c_void_p),
        ("bottleneck_sums", ctypes.c_void_p),
    ]


_BLOCK_UNIT = struct.Struct("3i q d 9P")  # the fields of BlockUnit


def block_units(fields: Iterable[tuple[Any, ...]]) -> ctypes.Array[BlockUnit]:
    """An array of `BlockUnit`s from their fields' values in order; pointers are ints, arrays spread out.

    Constructing them by ctypes would take a tenth of a millisecond for each hundred of them.
    """
    packed = [_BLOCK_UNIT.pack(*values) for values in fields]
    return (BlockUnit * len(packed)).from_buffer_copy(b"".join(packed))


class _Field(ctypes.Structure):
    """`Field` of interface.h."""

    _fields_ = [("name", ctypes.c_char_p), ("offset", ctypes.c_int64), ("size", ctypes.c_int64)]


Layout = list[tuple[str, int, int]]


def declared_layout() -> Layout:
    """Name, offset and size of each struct and of its fields, as declared here."""
    return [entry for struct_type in (Unit, BlockUnit, Block) for entry in _struct_layout(struct_type)]


def _struct_layout(struct_type: type[ctypes.Structure]) -> Iterator[tuple[str, int, int]]:
    yield struct_type.__name__, 0, ctypes.sizeof(struct_type)
    for name, *_ in struct_type._fields_:
        field = getattr(struct_type, name)
        yield f"{struct_type.__name__}.{name}", field.offset, field.size


def compiled_layout(functions: ctypes.CDLL) -> Layout:
    """Name, offset and size of each struct and of its fields, as the library was compiled."""
    fields: Any = functions.densenets_fields()
    layout: Layout = []
    while (field := fields[len(layout)]).name is not None:
        layout.append((field.name.decode(), field.offset, field.size))
    return layout


def declare_origin(functions: ctypes.CDLL) -> None:
    """Declare the types of the functions that tell from which sources a library was built.

    Raises:
        AttributeError: the library is older than these functions.
    """
    functions.densenets_interface_version.argtypes = []
    functions.densenets_interface_version.restype = ctypes.c_int32
    functions.densenets_fingerprint.argtypes = []
    functions.densenets_fingerprint.restype = ctypes.c_char_p
    functions.densenets_fields.argtypes = []
    functions.densenets_fields.restype = ctypes.POINTER(_Field)


def declare(functions: ctypes.CDLL) -> None:
    """Declare the types of all other functions; those that compute raise an exception on failure."""
    number, long, real, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    unit, block = ctypes.POINTER(Unit), ctypes.POINTER(Block)
    plain: dict[str, tuple[Any, list[Any]]] = {
        "use_runtime": (None, [pointer]),
        "instruction_sets": (number, []),
        "instruction_set_name": (ctypes.c_char_p, [number]),
        "advise_huge_pages": (None, [pointer, long]),
        "failure": (ctypes.c_char_p, []),
        "release_memory": (long, []),
        "refuse_memory": (None, [long]),
    }
    computing: dict[str, list[Any]] = {
        "forward": [unit],
        "backward": [unit],
        "block_forward": [block],
        "block_backward": [block],
        "statistics": [number, number, pointer, long, long, long, pointer, pointer],
        "apply_correction": [unit, long, pointer, long],
        "stem_forward": [unit, pointer],
        "stem_backward": [unit, pointer],
        "peak": [number, number, real, ctypes.POINTER(real)],
    }
    for name, (result, arguments) in plain.items():
        function = getattr(functions, f"densenets_{name}")
        function.restype, function.argtypes = result, arguments

    def raise_failure(status: int, function: Any, _: Any) -> None:
        if status == _DONE:
            return
        if status == _NO_MEMORY:
            raise MemoryError(f"{function.__name__} has no memory to compute in")
        raise RuntimeError(
            f"a bug of densenets: {function.__name__}: {functions.densenets_failure().decode()}"
        )

    for name, arguments in computing.items():
        function = getattr(functions, f"densenets_{name}")
        function.restype, function.argtypes, function.errcheck = number, [number, *arguments], raise_failure
