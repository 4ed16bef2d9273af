"""Small runs on real digits, for the tests of training."""

from __future__ import annotations

import dataclasses
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


def weights(out: Path) -> dict[str, Tensor]:
    """The last checkpoint's tensors."""
    return load_file(out / "checkpoints" / "last.safetensors")
