"""Planned runs on real digits, for the tests of reproductions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from densenets.reproduce.plan import PlannedRun
from densenets.reproduce.targets import Entry


def digits_run(folder: Path, *, seed: int = 0, **changes: Any) -> PlannedRun:
    """A run of seconds; `changes` are fields such as training__epochs=3."""
    fields = {
        "model.name": "densenet-bc-10-4",
        "training.epochs": 2,
        "training.batch_size": 256,
        "training.ema_decay": 0.0,
        "training.log_every": 1,
        "training.tensorboard": False,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    entry = Entry(network=fields["model.name"], base="digits", changes=fields, columns=("digits",))
    return PlannedRun(entry=entry, seed=seed, folder=folder / "runs" / f"digits-seed{seed}")
