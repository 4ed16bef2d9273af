"""Registry of the fused execution's backends: where each can run, and which kernels it has. Needs no PyTorch.

Every backend computes the unit that blocks are made of (`UnitKernels` in `unit.py`, beside this file); some
also run a whole block in one call (`BlockKernels` in `block_plan.py`), or the stem (`StemKernels`). To add
one, write its kernels in a folder of its own and add it to `BACKENDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from densenets.ops.backends.availability import Availability

if TYPE_CHECKING:
    from densenets.ops.backends.unit import UnitKernels


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend of the fused execution.

    Attributes:
        name: its name in operators' arguments.
        label: its name in messages.
        devices: device types whose tensors it takes; empty for any.
        dtypes: data types of feature maps that it takes.
        is_fast: whether "auto" prefers it to the reference.
        runs_block: whether it runs all layers of a block in one call (`BlockKernels`).
        runs_stem: whether it runs an ImageNet stem (`StemKernels`).
        availability: returns whether it can run on this machine.
        load: returns its kernels.
    """

    name: str
    label: str
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    is_fast: bool
    runs_block: bool
    runs_stem: bool
    availability: Callable[[], Availability]
    load: Callable[[], UnitKernels]


def _cpp_availability() -> Availability:
    from densenets.ops.backends.cpp.library import availability

    return availability()


def _cpp_kernels() -> UnitKernels:
    from densenets.ops.backends.cpp.kernels import CppKernels

    return CppKernels()


def _eager_availability() -> Availability:
    return Availability(True, "")


def _eager_kernels() -> UnitKernels:
    from densenets.ops.backends.eager import EagerKernels

    return EagerKernels()


CPP = Backend(
    name="cpp",
    label="native kernels",
    devices=("cpu",),
    dtypes=("float32", "bfloat16", "float64"),
    is_fast=True,
    runs_block=True,
    runs_stem=True,
    availability=_cpp_availability,
    load=_cpp_kernels,
)
EAGER = Backend(
    name="eager",
    label="PyTorch's operations",
    devices=(),
    dtypes=("float32", "bfloat16", "float64"),
    is_fast=False,
    runs_block=False,
    runs_stem=False,
    availability=_eager_availability,
    load=_eager_kernels,
)

BACKENDS = (CPP, EAGER)  # the first that can run on the maps' device and in their type is taken


def named_backend(name: str) -> Backend:
    """The backend of this name, one of `BACKENDS`."""
    return next(backend for backend in BACKENDS if backend.name == name)


def runs_stem(name: str) -> bool:
    """Whether the backend of this name runs an ImageNet stem."""
    return named_backend(name).runs_stem


# Constant in a compiled graph, which cannot hold records.
runs_stem._dynamo_marked_constant = True  # type: ignore[attr-defined]


def availability_for(backend: Backend, device: str, dtype: str) -> Availability:
    """Whether a backend can run here on maps of this device type and data type."""
    if backend.devices and device not in backend.devices:
        devices = " and ".join(name.upper() for name in backend.devices)
        return Availability(False, f"the {backend.label} are for the {devices}, not {device}")
    if dtype not in backend.dtypes:
        types = ", ".join(backend.dtypes)
        return Availability(False, f"the {backend.label} compute in {types}, not in {dtype}")
    return backend.availability()
