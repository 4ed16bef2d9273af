"""Finding and loading the library. Needs no PyTorch, so that `densenets summary` can ask it too."""

from __future__ import annotations

import ctypes
import functools
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from densenets.errors import InputError, unknown_name
from densenets.ops.execution import NativeState

INSTRUCTION_SET_VARIABLE = "DENSENETS_INSTRUCTION_SET"
_FOLDER = Path(__file__).parent


class Unit(ctypes.Structure):
    """`Unit` of interface.h, field by field: there are the shapes and meanings."""

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
        ("keep", ctypes.c_void_p),
        ("keep_scale", ctypes.c_double),
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
    """`BlockUnit` of interface.h."""

    _fields_ = [
        ("taps", ctypes.c_int32 * 3),
        ("out_channels", ctypes.c_int64),
        ("epsilon", ctypes.c_double),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
        ("mean", ctypes.c_void_p),
        ("variance", ctypes.c_void_p),
        ("keep", ctypes.c_void_p),
        ("scale_gradient", ctypes.c_void_p),
        ("shift_gradient", ctypes.c_void_p),
        ("weight_gradient", ctypes.c_void_p),
    ]


class Block(ctypes.Structure):
    """`Block` of interface.h."""

    _fields_ = [
        ("data_type", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        ("sides", ctypes.c_int64 * 3),
        ("units", ctypes.c_int32),
        ("layers", ctypes.c_int64),
        ("in_channels", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("keep_scale", ctypes.c_double),
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


@dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
        functions: the C functions of interface.h.
        instruction_sets: those that this machine runs, the best last.
    """

    functions: ctypes.CDLL
    instruction_sets: tuple[str, ...]

    def chosen(self) -> int:
        """Index of the instruction set to run: the best, or the one that the environment asks for.

        Raises:
            InputError: DENSENETS_INSTRUCTION_SET is not one that this machine runs.
        """
        asked = os.environ.get(INSTRUCTION_SET_VARIABLE)
        if not asked:
            return len(self.instruction_sets) - 1
        if asked not in self.instruction_sets:
            raise unknown_name(INSTRUCTION_SET_VARIABLE, asked, self.instruction_sets)
        return self.instruction_sets.index(asked)


@functools.cache
def load_library() -> Library:
    """The library that was built with this package.

    Raises:
        InputError: it was not built, or cannot be loaded; the message says which.
    """
    path = _FOLDER / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not path.is_file():
        raise InputError("the native kernels were not built when densenets was installed (no C++ compiler?)")
    try:
        functions = ctypes.CDLL(os.fspath(path))
    except OSError as error:
        raise InputError(f"the native kernels cannot be loaded: {error}") from error
    _declare(functions)
    names = [
        functions.densenets_instruction_set_name(index).decode()
        for index in range(functions.densenets_instruction_sets())
    ]
    return Library(functions, tuple(names))


def native_state() -> NativeState:
    """Whether the native kernels can run here.

    Raises:
        InputError: the environment asks for an instruction set that there is not.
    """
    try:
        library = load_library()
    except InputError as error:
        return NativeState(None, str(error))
    return NativeState(library.instruction_sets[library.chosen()])


def _declare(functions: ctypes.CDLL) -> None:
    number, long, pointer, unit = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.POINTER(Unit)
    functions.densenets_use_runtime.argtypes = [pointer]
    functions.densenets_use_runtime.restype = None
    functions.densenets_instruction_sets.restype = number
    functions.densenets_instruction_set_name.argtypes = [number]
    functions.densenets_instruction_set_name.restype = ctypes.c_char_p
    functions.densenets_expect.argtypes = [pointer, long]
    functions.densenets_expect.restype = None
    functions.densenets_forward.argtypes = [number, unit]
    functions.densenets_forward.restype = None
    functions.densenets_backward.argtypes = [number, unit]
    functions.densenets_backward.restype = None
    for name in ("densenets_block_forward", "densenets_block_backward"):
        getattr(functions, name).argtypes = [number, ctypes.POINTER(Block)]
        getattr(functions, name).restype = None
    functions.densenets_statistics.argtypes = [number, number, number, pointer, *[long] * 3, pointer, pointer]
    functions.densenets_statistics.restype = None
    functions.densenets_complete.argtypes = [number, unit, long, pointer, long]
    functions.densenets_complete.restype = None
    functions.densenets_stem_forward.argtypes = [number, unit, pointer]
    functions.densenets_stem_forward.restype = None
    functions.densenets_stem_backward.argtypes = [number, unit, pointer]
    functions.densenets_stem_backward.restype = None
    functions.densenets_peak.argtypes = [number, number, number, ctypes.c_double]
    functions.densenets_peak.restype = ctypes.c_double
