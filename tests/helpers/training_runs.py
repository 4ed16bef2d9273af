"""Small runs on real digits, for the tests of training."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from densenets.training.recipe import Recipe
from densenets.training.recipes import named_recipe

# One layer a block and 4 channels a layer: seconds an epoch, dropout and mixup included.
SMALL = ("--model.name", "densenet-bc-10-4", "--training.epochs", "2", "--training.log-every", "5")


def small_recipe(**training: object) -> Recipe:
    """The demo's recipe with a smaller network and two epochs."""
    recipe = named_recipe("digits")
    # Two epochs are too few for the demo's averaged weights.
    changes = {"epochs": 2, "log_every": 5, "ema_decay": 0.0, **training}
    return dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, name="densenet-bc-10-4"),
        training=dataclasses.replace(recipe.training, **changes),  # type: ignore[arg-type]
    )


def command(*arguments: str, processes: int = 1) -> list[str]:
    """The command line of a run, under torchrun where it has several processes."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, "-m", "densenets", *arguments]


def environment() -> dict[str, str]:
    """One thread a process, so that the order of every sum is the same in all runs."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        command(*arguments, processes=processes),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def weights(out: Path) -> dict[str, Tensor]:
    """The last checkpoint's tensors."""
    return load_file(out / "checkpoints" / "last.safetensors")
