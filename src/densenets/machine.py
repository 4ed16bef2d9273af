"""The machine of a run: choice of the device, versions and names for records, memory settings."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from densenets import __version__
from densenets.errors import InputError
from densenets.ops.backends.backend import CPP
from densenets.processor import processor_name

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt


def choose_device(requested: str, local_rank: int = 0) -> torch.device:
    """The device of this process; "auto" is this rank's GPU where there is one, else the CPU.

    Raises:
        InputError: the device is unknown to PyTorch, or not on this machine.
    """
    if requested == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(requested)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device '{requested}' cannot be used: {reason}") from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", local_rank)
    return device


def device_name(device: torch.device) -> str:
    """The device's own name; for a CPU with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def kernels_and_device() -> str:
    """The native kernels, or why there are none, and the device that "auto" takes, for `densenets --version`.

    Raises:
        InputError: DENSENETS_INSTRUCTION_SET is not one that this machine runs.
    """
    available, reason = CPP.availability()
    kernels = f"{CPP.label}, {reason}" if available else reason
    return f"{kernels}; {device_name(choose_device('auto'))}"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, date and command, to be recorded beside results."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [os.fspath(a) for a in sys.argv],
        "device": device_name(device),
        "python": platform.python_version(),
        "system": platform.platform(),
        "densenets": __version__,
        **{package: version(package) for package in ("torch", "torchvision", "numpy")},
    }


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the process' next allocations.

    By default it returns each large activation to the system at once, and the system clears its pages at the
    next allocation, which is up to a third of a training step. Returns whether the settings took effect.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, -1))
