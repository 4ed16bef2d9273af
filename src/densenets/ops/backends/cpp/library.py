"""Loading of the C++ library, and checks that it fits this code. Needs no PyTorch, as `densenets summary`."""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from densenets.errors import InputError, unknown_name
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.cpp.interface import (
    INTERFACE_VERSION,
    compiled_layout,
    declare,
    declare_origin,
    declared_layout,
)
from densenets.ops.backends.cpp.sources import LIBRARY, fingerprint

INSTRUCTION_SET_VARIABLE = "DENSENETS_INSTRUCTION_SET"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Library:
    """The loaded library.

    Attributes:
        functions: the C functions of interface.h.
        instruction_sets: those that this machine can run, the best last.
    """

    functions: ctypes.CDLL
    instruction_sets: tuple[str, ...]

    def chosen(self) -> int:
        """Index of the instruction set to run: the best, or the one that the environment asks for.

        Raises:
            InputError: DENSENETS_INSTRUCTION_SET is not one that this machine runs.
        """
        requested = os.environ.get(INSTRUCTION_SET_VARIABLE)
        if not requested:
            return len(self.instruction_sets) - 1
        if requested not in self.instruction_sets:
            raise unknown_name(INSTRUCTION_SET_VARIABLE, requested, self.instruction_sets)
        return self.instruction_sets.index(requested)


def load_library() -> Library:
    """The library that was built with this package.

    Raises:
        InputError: it was not built, cannot be loaded, or was built from other sources; it says which.
    """
    library = _find_library()
    if isinstance(library, str):
        raise InputError(library)
    return library


@functools.cache
def _find_library() -> Library | str:
    """The library, or the reason why there is none; asked once a process."""
    path = _FOLDER / LIBRARY
    if not path.is_file():
        return "the native kernels were not built when densenets was installed (no C++ compiler?)"
    try:
        functions = ctypes.CDLL(os.fspath(path))
    except OSError as error:
        return f"the native kernels cannot be loaded: {error}"
    if (difference := _difference(functions)) is not None:
        return (
            f"the native kernels were built from other sources than this code ({difference}); "
            "build them again with 'make install', or 'pip install' densenets anew"
        )
    declare(functions)
    names = [
        functions.densenets_instruction_set_name(index).decode()
        for index in range(functions.densenets_instruction_sets())
    ]
    return Library(functions, tuple(names))


def _difference(functions: ctypes.CDLL) -> str | None:
    """How a library differs from this code's sources; None where it was built from them.

    Struct layouts are always compared, the sources' contents where the sources are installed too.
    """
    try:
        declare_origin(functions)
    except AttributeError:
        return "it does not say which"
    version = functions.densenets_interface_version()
    if version != INTERFACE_VERSION:
        return f"its interface is {version}, here {INTERFACE_VERSION}"
    compiled, declared = compiled_layout(functions), declared_layout()
    if compiled != declared:
        return f"{next(iter(set(compiled) ^ set(declared)))[0]} lies elsewhere"
    sources = fingerprint(Path(__file__).parent / "csrc")
    if sources is not None and functions.densenets_fingerprint().decode() != sources:
        return "their contents differ"
    return None


def release_memory() -> int:
    """Free the memory that the native kernels hold for their next calls; return the number of bytes.

    They free it gradually by themselves where calls need less than half of it.
    """
    released: int = load_library().functions.densenets_release_memory()
    return released


def availability() -> Availability:
    """Whether the library can run here: the instruction set that it would use, or why it cannot.

    Raises:
        InputError: DENSENETS_INSTRUCTION_SET is not one that this machine runs.
    """
    library = _find_library()
    if isinstance(library, str):
        return Availability(False, library)
    return Availability(True, library.instruction_sets[library.chosen()])
