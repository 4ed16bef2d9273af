"""A training step as it is measured: what it is, and what a process of its own found. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from densenets.data.data_sets import DATA_FACTS
from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import config_from_dict
from densenets.ops.execution import Execution
from densenets.schema import fits
from densenets.subprocess_jobs import run_job
from densenets.training.recipe import OptimizerRecipe, Recipe

_WORKER = "densenets.profiling.step_worker"


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """A network's training step on random images.

    Attributes:
        network: what is trained.
        batch: images of a step.
        sides: of an image, in pixels.
        execution: how dense blocks run.
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
    execution: Execution = "auto"
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    companion_weight: float = 0.1
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"batch {self.batch} cannot be: at least 1 is needed")
        if len(self.sides) != self.network.spatial_dims:
            raise InputError(
                f"images of {len(self.sides)} sides cannot be: the network has {self.network.spatial_dims}"
            )
        self.network.check_input((self.network.in_channels, *self.sides))

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> StepConfig:
        """The step of a recipe, on images of its data set.

        Raises:
            InputError: the size of the recipe's images is not known before they are read.
        """
        if recipe.data.name not in DATA_FACTS:
            raise InputError(f"the images of {recipe.data.name} have no known size; its step is not measured")
        side = DATA_FACTS[recipe.data.name].side
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


def measured_step(config: StepConfig) -> dict[str, Any]:
    """Time and memory of a step, in processes of their own.

    Returns:
        What `step_worker.measure` returns, with in_use_bytes; or "failed", the reason.
    """
    result = run_job(_WORKER, {"step": config.to_dict(), "in_use": False})
    if "failed" in result:
        return result
    # Time stands although the second process failed.
    return {**result, "in_use_bytes": measured_memory(config).get("in_use_bytes")}


def is_measured_step(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value that was read from a file is what `measured_step` returns of a step."""
    from densenets.records import MeasuredStep  # which takes a library that a command's start does not need

    return fits(MeasuredStep, value)


def measured_memory(config: StepConfig) -> dict[str, Any]:
    """The peak of a step alone, in a process of its own.

    Returns:
        in_use_bytes, None where that cannot be told; or "failed", the reason.
    """
    return run_job(_WORKER, {"step": config.to_dict(), "in_use": True})


def step_seconds(cost: dict[str, Any]) -> float | None:
    """Seconds of a measured step; None without one."""
    if "forward_seconds" not in cost:
        return None
    return float(cost["forward_seconds"] + cost["backward_seconds"] + cost["optimizer_seconds"])


def peak_bytes(cost: dict[str, Any]) -> int | None:
    """Bytes at the peak: in use where that is known, else as the system saw them; None without a step."""
    in_use = cost.get("in_use_bytes")
    return cost.get("memory_bytes") if in_use is None else in_use


def phases_per_image(cost: dict[str, Any]) -> dict[str, float | None]:
    """Milliseconds an image of a measured step, forward and backward pass apart; None without one."""
    seconds = step_seconds(cost)
    if seconds is None:
        return {"forward_ms": None, "backward_ms": None, "step_ms": None}
    per_image = 1000 / cost["batch"]
    return {
        "forward_ms": cost["forward_seconds"] * per_image,
        "backward_ms": cost["backward_seconds"] * per_image,
        "step_ms": seconds * per_image,
    }
