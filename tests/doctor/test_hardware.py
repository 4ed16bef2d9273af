"""Processor, memory and folders, as far as systems tell of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from densenets.doctor import hardware
from densenets.doctor.hardware import folders, memory, processor


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of Linux: an empty tree of them, this process being in a/b of version 2."""
    monkeypatch.setattr(hardware, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "_OWN_CGROUP", tmp_path / "own")
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "cgroup" / "a" / "b").mkdir(parents=True)
    return tmp_path / "cgroup"


def test_this_machine():
    found = processor()
    assert found.name
    assert 1 <= found.usable_cores <= found.cores


@pytest.mark.skipif(os.name != "posix", reason="the system does not tell")
def test_memory_of_this_machine():
    found = memory()
    assert found.total is not None
    assert found.total > 2**28
    assert found.available is None or 0 < found.available <= found.total
    assert found.limit is None or found.limit < found.total


def test_the_lowest_limit_of_all_groups_counts(groups: Path):
    assert memory().limit is None
    (groups / "a" / "b" / "memory.max").write_text("max\n")
    assert memory().limit is None
    (groups / "a" / "memory.max").write_text("20000000\n")
    (groups / "memory.max").write_text("30000000\n")
    assert memory().limit == 20_000_000


def test_the_limit_of_a_container_whose_groups_are_hidden(groups: Path):
    # The first version's; inside a container its own group is the outermost that is seen.
    (groups.parent / "own").write_text("5:cpu:/docker/1\n4:memory:/docker/1\n")
    (groups / "memory").mkdir()
    (groups / "memory" / "memory.limit_in_bytes").write_text("1000000\n")
    assert memory().limit == 1_000_000
    (groups / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # is none
    assert memory().limit is None


def test_a_system_without_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "_OWN_CGROUP", tmp_path / "nothing")
    assert memory().limit is None


def test_folders_that_are_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert [folder.purpose for folder in folders()] == ["current", "temporary"]
    (tmp_path / "data").mkdir()
    current, data, _ = folders()
    assert (current.path, data.path) == (str(tmp_path), str(tmp_path / "data"))
    assert current.is_writable
    assert current.free > 0


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch):
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert "temporary" not in {folder.purpose for folder in folders()}
