"""What the machine has: processor, memory and disks. Needs no PyTorch."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from densenets.data.data_config import DataConfig
from densenets.processor import processor_name, usable_cores
from densenets.profiling.peak_memory import available_memory

_CGROUPS = Path("/sys/fs/cgroup")  # of Linux: limits of a container or a job
_OWN_CGROUP = Path("/proc/self/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")  # of version 2 and of version 1


@dataclass(frozen=True, kw_only=True)
class ProcessorFacts:
    """The processor.

    Attributes:
        name: its own.
        cores: of the machine.
        usable_cores: on which this process may run.
    """

    name: str
    cores: int
    usable_cores: int


@dataclass(frozen=True, kw_only=True)
class MemoryFacts:
    """Bytes of memory; None where the system does not say.

    Attributes:
        total: of the machine.
        available: that it could give to a process now.
        limit: of this process' container or job; None also without one.
    """

    total: int | None
    available: int | None
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """A folder that is written to.

    Attributes:
        purpose: what is written there.
        path: of the folder.
        free: bytes free on its disk.
        is_writable: whether this user may write there.
    """

    purpose: str
    path: str
    free: int
    is_writable: bool


def processor() -> ProcessorFacts:
    """The processor of this machine."""
    return ProcessorFacts(name=processor_name(), cores=os.cpu_count() or 1, usable_cores=usable_cores())


def memory() -> MemoryFacts:
    """The memory of this machine, and how much of it this process may have."""
    total = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [limit for limit in _memory_limits() if total is None or limit < total]
    return MemoryFacts(total=total, available=available_memory(), limit=min(limits, default=None))


def folders() -> tuple[FolderFacts, ...]:
    """The folders that are written to and that are there: for runs, data sets and temporary files."""
    found = {"current": Path.cwd(), "data": DataConfig.root.absolute()}
    if (temporary := _temporary_folder()) is not None:
        found["temporary"] = temporary
    return tuple(
        FolderFacts(
            purpose=purpose,
            path=os.fspath(path),
            free=shutil.disk_usage(path).free,
            is_writable=os.access(path, os.W_OK),
        )
        for purpose, path in found.items()
        if path.is_dir()
    )


def _temporary_folder() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none can be written to, for example because disks are full
        return None


def _memory_limits() -> Iterator[int]:
    """The limits of this process' control groups, from its own up to the outermost."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or hidden
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        outermost = _CGROUPS / controllers
        group = outermost / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _limits_of(folder)
            if folder == outermost:
                break


def _limits_of(group: Path) -> Iterator[int]:
    """The limit of a control group, if it has one: "max" is none."""
    for name in _LIMITS:
        with contextlib.suppress(OSError):  # a version that the system does not have
            text = (group / name).read_text(encoding="ascii").strip()
            if text.isdecimal():
                yield int(text)
