"""The processor, as this system and others tell of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densenets import processor
from densenets.processor import instructions, processor_name, usable_cores

CPUINFO = """processor\t: 0
model name\t: Some Processor @ 2.00GHz
flags\t\t: fpu avx2 fma

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_the_first_processor_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    assert processor_name() == "Some Processor @ 2.00GHz"
    assert instructions() == {"fpu", "avx2", "fma"}


def test_an_arm_processor_has_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert processor_name() == "aarch64"
    assert "bf16" in instructions()


def test_another_system_than_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr("platform.processor", lambda: "i386")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert processor_name() == "i386"
    assert instructions() == frozenset()
    assert usable_cores() == os.cpu_count()
