"""One training step or one forward pass: whose, on what images, and how it runs. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from densenets.data.dataset_info import DATASET_INFO
from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import config_from_dict
from densenets.ops.execution import Execution
from densenets.training.recipe import OptimizerRecipe, Recipe

Mode = Literal["train", "inference"]
Precision = Literal["float32", "bfloat16"]
Implementation = Literal["densenets", "torchvision"]


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """A training step of a network on random images, or a forward pass in evaluation mode.

    Attributes:
        network: what is run.
        batch: images of a step.
        sides: of an image, in pixels.
        mode: "train" is a whole training step, "inference" a forward pass.
        implementation: whose modules compute.
        execution: how our dense blocks run.
        memory_efficient: whether torchvision checkpoints its bottlenecks.
        compiled: whether torch.compile makes the program.
        optimizer: what moves the weights.
        precision: bfloat16 computes under autocast.
        channels_last: memory format of weights and images.
        companion_weight: of companion classifiers' losses, where the network has them.
        device: auto, cpu, cuda, ...

    Raises:
        InputError: the batch is below 1, or the images are not for the network.
    """

    network: NetworkConfig
    batch: int
    sides: tuple[int, ...]
    mode: Mode = "train"
    implementation: Implementation = "densenets"
    execution: Execution = "auto"
    memory_efficient: bool = False
    compiled: bool = False
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    precision: Precision = "float32"
    channels_last: bool = False
    companion_weight: float = 0.1
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"batch must be at least 1, got {self.batch}")
        if len(self.sides) != self.network.spatial_dims:
            raise InputError(
                f"images must have {self.network.spatial_dims} sides as the network's, got {len(self.sides)}"
            )
        self.network.check_input((self.network.in_channels, *self.sides))

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> StepConfig:
        """The step of a recipe, on images of its data set.

        Raises:
            InputError: the size of the recipe's images is not known before they are read.
        """
        if recipe.data.name not in DATASET_INFO:
            raise InputError(f"the images of {recipe.data.name} have no known size; its step is not measured")
        side = DATASET_INFO[recipe.data.name].side
        return cls.of_training(recipe, recipe.network, (side, side))

    @classmethod
    def of_training(cls, recipe: Recipe, network: NetworkConfig, sides: tuple[int, ...]) -> StepConfig:
        """The step of a recipe, on images of these sides."""
        training = recipe.training
        return cls(
            network=network,
            batch=training.batch_size,
            sides=sides,
            execution=recipe.model.execution,
            optimizer=recipe.optimizer,
            precision=training.precision,
            channels_last=training.channels_last,
            companion_weight=training.companion_weight,
            device=training.device,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "network": self.network.to_dict(),
            "optimizer": dataclasses.asdict(self.optimizer),
            "sides": list(self.sides),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> StepConfig:
        """The config that `to_dict` was made from."""
        return cls(
            **{
                **fields,
                "network": config_from_dict(fields["network"]),
                "optimizer": OptimizerRecipe(**fields["optimizer"]),
                "sides": tuple(fields["sides"]),
            }
        )
