"""What a reproduction may be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from densenets.errors import InputError
from densenets.reproduce.options import TARGETS, ReproduceOptions


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "table9"}, "unknown target 'table9'; did you mean table"),
        ({"target": "everything"}, "known: table2, table3, fig3, fig4"),
        ({"scale": "tpu"}, "unknown scale 'tpu'; did you mean"),
        ({"recipes": "mine"}, "unknown recipes 'mine'; known: own, densenet"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"processes": 0}, "processes must be at least 1, got 0"),
        ({"shard": "3/2"}, "shard must be i/n with i from 1 to n, such as 2/3, got '3/2'"),
        ({"shard": "0/2"}, "shard must be i/n .* got '0/2'"),
        ({"shard": "1"}, "shard must be i/n .* got '1'"),
        ({"shard": "a/b"}, "shard must be i/n .* got 'a/b'"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ReproduceOptions(**{"target": "fig4", **fields})


def test_a_shard_is_a_place_among_machines() -> None:
    assert ReproduceOptions("fig4").shard_place == (0, 1)
    assert ReproduceOptions("fig4", shard="2/3").shard_place == (1, 3)


@pytest.mark.parametrize("target", TARGETS)
def test_scales_lie_in_folders_of_their_own(target: str) -> None:
    folders = {ReproduceOptions(target, scale=scale).folder for scale in ("cpu", "gpu", "paper")}  # type: ignore[arg-type]
    assert len(folders) == 3
    assert ReproduceOptions(target, out=Path("here")).folder == Path("here")
