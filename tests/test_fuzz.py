"""Mutated files of every kind, a few of each; `python tests/fuzz.py` reads them by the thousand."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hostile_files import KINDS, SUFFIXES, write_bad
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densenets.errors import InputError
from densenets.profiling.peak_memory import PeakMemory

MEMORY = 2**29  # bytes above those that the process had before
SECONDS = 10  # for a file; hypothesis measures it
EXAMPLES = {
    "checkpoint": 150,
    "weights": 60,
    "safetensors": 60,
    "run": 80,
    "report": 15,
    "recipe": 150,
    "names": 60,
    "picture": 60,
    # Each file is parsed in a process of its own, which takes half a second to start.
    "keras": 15,
    "onnx": 15,
    "exported onnx": 15,
    "exported ir": 15,
    "exported archive": 60,
}


def test_every_kind_is_tried() -> None:
    assert EXAMPLES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"file{SUFFIXES.get(kind, '')}"
    KINDS[kind].make(path, 1)
    KINDS[kind].read(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_mutated_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    folder = tmp_path_factory.mktemp(kind)
    path = folder / f"file{SUFFIXES.get(kind, '')}"
    KINDS[kind].make(path, 0)
    KINDS[kind].read(path)  # what is imported or grows when first used
    outcomes = set()

    @settings(
        max_examples=EXAMPLES[kind],
        deadline=timedelta(seconds=SECONDS),
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        write_bad(kind, path, f"{kind}-{seed}")
        try:
            KINDS[kind].read(path)
            outcomes.add("read")
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017 - that it is raised is right, and so is that it is not
            outcomes.add("refused")

    memory = PeakMemory()
    check()
    assert memory.read() < MEMORY
    assert "refused" in outcomes
    shutil.rmtree(folder)


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        write_bad("checkpoint", tmp_path / "a.safetensors", "7")
        contents.append((tmp_path / "a.safetensors").read_bytes())
    assert contents[0] == contents[1]
