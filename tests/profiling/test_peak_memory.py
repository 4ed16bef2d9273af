"""The peak is counted from where the measurement begins."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from densenets.profiling import peak_memory as memory
from densenets.profiling.peak_memory import PeakMemory

MEBIBYTES = 2**20


def fill(mebibytes: int) -> int:
    """Use memory for a moment."""
    return len(bytearray(b"x") * (mebibytes * MEBIBYTES))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system has no such mark")
def test_the_peak_is_what_was_used_since() -> None:
    # In a process of its own: the system may take pages away that other tests have left behind.
    script = """
from densenets.profiling.peak_memory import PeakMemory
fill = lambda mebibytes: len(bytearray(b"x") * (mebibytes * 2**20))
fill(200)
peak = PeakMemory()
before = peak.read()
fill(80)
used = peak.read()
peak.restart_peak()
print(peak.measured_by, before, used, peak.read())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    measured_by, *numbers = run.stdout.split()
    before, used, after = map(int, numbers)
    assert measured_by == "VmHWM"
    assert before < 20 * MEBIBYTES
    assert 75 * MEBIBYTES < used < 100 * MEBIBYTES
    assert after < 20 * MEBIBYTES


def test_without_a_mark_to_reset_it_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    fill(100)
    peak = PeakMemory()
    assert peak.measured_by == "ru_maxrss"
    fill(20)
    peak.restart_peak()
    assert peak.read() < 20 * MEBIBYTES


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system has no such mark")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its heap cannot be trimmed")
def test_what_the_heap_holds_in_reserve_is_counted_when_it_is_used() -> None:
    # The block that stays, above those that are freed, keeps them in the heap.
    script = """
from densenets.profiling.peak_memory import PeakMemory
small_blocks = lambda: [bytearray(30_000) for _ in range(2000)]
freed, stays = small_blocks(), bytearray(30_000)
freed = None
peak = PeakMemory()
used = small_blocks()
print(peak.read())
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 50 * MEBIBYTES
