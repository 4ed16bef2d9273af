"""The peak memory of this process, above what it holds when the measurement begins.

glibc keeps small and middling blocks that are freed for later, in a heap with holes, so the peak that the
system sees is more than what was in use at once, and differs from run to run. Both are worth knowing.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MACHINE = Path("/proc/meminfo")
_RESET_PEAK = "5"  # proc(5): clears the high-water mark of the resident memory
_M_MMAP_THRESHOLD = -3  # a parameter of glibc's mallopt
_SMALLEST_MAPPED = 64 * 1024  # bytes


class PeakMemory:
    """Begins to measure when it is made.

    Attributes:
        measured_by: "VmHWM" where the system's high-water mark can be reset; otherwise "ru_maxrss", which
            counts from the highest that the process ever had, and so is a lower bound; "nothing" on Windows,
            which has neither.
    """

    def __init__(self) -> None:
        gc.collect()
        _trim_heap()
        try:
            self._start = _status("VmRSS")
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self.measured_by = "VmHWM"
        except OSError:
            self._start = _highest_ever() or 0
            self.measured_by = "nothing" if sys.platform == "win32" else "ru_maxrss"

    def restart_peak(self) -> None:
        """Forget the peak so far, but not where the measurement began; without effect on ru_maxrss."""
        if self.measured_by == "VmHWM":
            gc.collect()
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")

    def read(self) -> int | None:
        """Bytes of the peak; None on Windows."""
        peak = _status("VmHWM") if self.measured_by == "VmHWM" else _highest_ever()
        return None if peak is None else max(0, peak - self._start)


def give_back_freed_memory() -> bool:
    """From now on let the system have each block of 64 KiB or more as soon as it is freed.

    For a process that has not computed yet: holes that the heap already has would be filled first. The peak
    is then what is in use at once. It costs time, for the system clears every page anew. Returns whether
    there was a glibc to tell.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _SMALLEST_MAPPED))


def available_memory() -> int | None:
    """Bytes that this machine could give to a process now; None where it does not say."""
    try:
        return _field(_MACHINE, "MemAvailable")
    except OSError:
        return None


def _trim_heap() -> None:
    """Let the system have what the heap holds in reserve, in which a small peak would vanish.

    There is much of it where Python has just compiled the modules that it imported.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    return _field(_STATUS, field)


def _field(file: Path, field: str) -> int:
    """Bytes of a field of one of the system's files."""
    match = re.search(rf"^{field}:\s+(\d+) kB$", file.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise OSError(f"{file} has no {field}")
    return 1024 * int(match[1])


def _highest_ever() -> int | None:
    if sys.platform == "win32":
        return None
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
