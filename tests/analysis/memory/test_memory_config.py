"""Memory's options: what can be measured, and sizes as texts."""

from __future__ import annotations

import dataclasses

import pytest

from densenets.analysis.memory.memory_config import MemoryConfig, read_bytes
from densenets.errors import InputError

CONFIG = MemoryConfig(model="densenet-bc-52-12", batch=8)


def test_batches_are_shares_of_the_largest_unless_they_are_named() -> None:
    assert CONFIG.batch_sizes == (2, 4, 8)
    assert dataclasses.replace(CONFIG, batch=2).batch_sizes == (1, 2)
    assert dataclasses.replace(CONFIG, batches=(3, 9)).batch_sizes == (3, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": (0.5, 0.25)}, "scales must be ascending numbers"),
        ({"scales": ()}, "scales must be ascending numbers"),
        ({"scales": (1.0, 5.0)}, "scales must be at most 4, got"),
        ({"batches": (0, 2)}, "batches must be ascending numbers"),
        ({"executions": ("auto",)}, "executions must be of reference, .* got 'auto'"),
        ({"memory": "-1B"}, "--memory -1B is no size"),
        ({"batch": 1}, "batch must be at least 2, .* got 1"),
        ({"input": "32"}, "--input 32 is no shape"),
        ({"model": "resnet20"}, "resnet20 is a ResNet; memory is measured against the depth of dense blocks"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_sizes_have_units() -> None:
    assert read_bytes("8GiB") == 8 * 2**30
    assert read_bytes("11 GB") == 11 * 10**9
    assert read_bytes("1.5mib") == 3 * 2**19
    assert read_bytes("12B") == 12
    assert read_bytes("") == 0
    for text in ("8", "GiB", "-1GiB", "8 GiBit", "8TiB"):
        with pytest.raises(InputError, match=f"--memory {text} is no size"):
            read_bytes(text)
