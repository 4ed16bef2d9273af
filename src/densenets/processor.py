"""The processor: its name, the cores that this process may use, the instructions that it has."""

from __future__ import annotations

import os
import platform

_CPUINFO = "/proc/cpuinfo"  # of Linux


def processor_name() -> str:
    """The processor's own name, or what the system calls it."""
    return _field("model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """The number of cores that this process may run on, which may be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def instructions() -> frozenset[str]:
    """The processor's instruction sets, as Linux names them; empty where the system does not list them."""
    return frozenset((_field("flags") or _field("Features")).split())


def _field(name: str) -> str:
    """The first value of a field of Linux' list of processors; empty where there is none."""
    try:
        with open(_CPUINFO, encoding="utf-8") as file:  # noqa: PTH123
            lines = (line.partition(":") for line in file)
            return next((value.strip() for key, _, value in lines if key.strip() == name), "")
    except FileNotFoundError:
        return ""
