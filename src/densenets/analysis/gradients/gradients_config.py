"""What is measured of signal and gradient: networks, images, settings, steps. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from densenets.data.data_config import MEMORY_DATA
from densenets.data.dataset_info import steps_per_epoch, training_count
from densenets.errors import InputError, unknown_name
from densenets.models.registry import named_config
from densenets.training.recipe import Recipe, changed
from densenets.training.recipes import named_recipe

Setting = Literal["xavier", "he", "paper"]

SETTINGS: dict[Setting, str] = {
    "xavier": "without batch normalisation, Xavier's weights (variance 1 / fan-in)",
    "he": "without batch normalisation, He's weights (variance 2 / fan-in)",
    "paper": "as the networks' papers build them, with batch normalisation where they have it",
}


@dataclass(frozen=True, kw_only=True)
class GradientsConfig:
    """Signal and gradient of every layer by depth, at initialisation and after some steps of training.

    Raises:
        InputError: a name is unknown, a network is too large for the images, or a number is out of its range.
    """

    models: tuple[str, ...]
    """Names of the zoo, such as densenet-40-12 resnet38 plain-38 highway-38-8."""
    data: str = "digits"
    """Images to train on: digits, fashion-mnist, cifar10, cifar100 or svhn."""
    root: Path = Path("data")
    """Where they lie."""
    settings: tuple[Setting, ...] = ("xavier", "paper")
    """paper: as the networks' papers build them; xavier, he: without batch normalisation, such weights."""
    steps: tuple[int, ...] = (0, 20, 100)
    """Of training, ascending, after which is measured; 0 is the initialisation."""
    batch_size: int = 64
    """Images of a training step, and images that are measured with."""
    learning_rate: float = 0.01
    """The highest of the schedule, alike for all networks; 0 for the recipe's own."""
    seed: int = 0
    """Of initial weights, order of images, augmentation and dropout, and of the images measured with."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        if self.data not in MEMORY_DATA:
            raise unknown_name("data set", self.data, MEMORY_DATA)
        for setting in self.settings:
            if setting not in SETTINGS:
                raise unknown_name("setting", setting, SETTINGS)
        for name in ("models", "settings"):
            values: tuple[str, ...] = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(f"{name} must be at least one name, each once, got '{' '.join(values)}'")
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 0:
            raise InputError(f"steps must be ascending numbers of at least 0, got {self.steps}")
        if self.batch_size < 2 or min(self.learning_rate, self.seed) < 0:
            raise InputError(
                "batch_size must be at least 2, learning_rate and seed at least 0, got "
                f"{self.batch_size}, {self.learning_rate:g} and {self.seed}"
            )
        for model in self.models:
            self._check(self.recipe(model))

    def recipe(self, model: str) -> Recipe:
        """What trains a network: DenseNet's protocol for the data, the demo's on digits.

        Raises:
            InputError: no network has the name, or none for such images.
        """
        named_config(model)
        if self.data == "digits":
            # The demo's dropout is its own network's; no network has any here that its name does not say.
            fields = {"model.name": model, "model.dropout": 0.0, "training.ema_decay": 0.0}
            recipe = changed(named_recipe("digits"), fields)
        else:
            recipe = named_recipe(f"{self.data}-{model}")
        ours = {
            "data.root": self.root,
            "training.batch_size": self.batch_size,
            "training.seed": self.seed,
            "optimizer.learning_rate": self.learning_rate or recipe.optimizer.learning_rate,
        }
        return changed(recipe, ours)

    def _check(self, recipe: Recipe) -> None:
        """Check that the network reads the images, and that training is as long as we want to look."""
        recipe.network  # noqa: B018 - raises
        count = training_count(recipe.data)
        assert count is not None
        steps = steps_per_epoch(count, recipe.training.batch_size) * recipe.training.epochs
        if self.steps[-1] > steps:
            raise InputError(
                f"steps must be at most {steps}, where recipe {recipe.name} ends, got {self.steps}"
            )
