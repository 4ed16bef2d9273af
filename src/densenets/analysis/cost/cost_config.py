"""Networks whose training steps are compared, and their images. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_rows import LayerTable
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import named_config
from densenets.ops.execution import Execution
from densenets.profiling.step import StepConfig
from densenets.profiling.step_settings import DenseExecution, StepSettings

_IMAGENET_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_RESNET_UNITS = range(1, 19)  # a stage, up to the 164 layers whose errors the paper compares
_RESNET_WIDTHS = (16, 32, 48, 64, 96, 128)  # channels that a stage begins with; 16 is the paper's
_NEAR = 0.04  # of the parameters


@dataclass(frozen=True, kw_only=True)
class CostConfig(StepSettings):
    """Time and memory of training steps, forward pass, backward pass and optimiser apart.

    Raises:
        InputError: a model is unknown or named twice, or an image is too small for one.
    """

    models: tuple[str, ...]
    """Names of the zoo; beside one DenseNet alone the ResNet of the nearest parameters is measured."""
    executions: tuple[DenseExecution, ...] = ("reference", "fused")
    """How dense blocks run."""

    def __post_init__(self) -> None:
        if not self.models:
            raise InputError("name at least one network, such as densenet-bc-100-12")
        if len(set(self.models)) < len(self.models):
            raise InputError(f"models must be named once each, got {' '.join(self.models)}")
        if not self.executions:
            raise InputError("at least one model and one execution are needed")
        _ = self.steps

    @property
    def compared(self) -> tuple[str, ...]:
        """The networks that are measured: those that are named, or beside one alone the ResNet like it."""
        return self.models if len(self.models) > 1 else (*self.models, matched_resnet(self.models[0]))

    @property
    def step(self) -> StepConfig:
        """The step of the first network, whose images and classes are those of all."""
        return self.step_of(self.models[0])

    @property
    def steps(self) -> list[tuple[str, StepConfig]]:
        """The name of every network, and its step in every execution that it has."""
        first = self.step
        images = {"in_channels": first.network.in_channels, "num_classes": first.network.num_classes}
        steps = []
        for name in self.compared:
            network = dataclasses.replace(named_config(name), **images)
            executions: tuple[Execution, ...] = ("reference",)
            if isinstance(network, DenseNetConfig):
                executions = self.executions
            steps += [
                (name, dataclasses.replace(first, network=network, execution=execution))
                for execution in executions
            ]
        return steps


@functools.cache  # it tries a hundred networks, and a config asks it whenever its steps are read
def matched_resnet(name: str) -> str:
    """Name of the ResNet with about as many parameters as a DenseNet: pre-activation, or one of ImageNet's.

    Raises:
        InputError: no network has the name, or it is no DenseNet.
    """
    network = named_config(name)
    if not isinstance(network, DenseNetConfig):
        raise InputError(f"{name} is a {network.title}; name a second network to compare it with")
    wanted = _facts(name, network).total("parameters")

    def distance(other: str) -> float:
        config = dataclasses.replace(named_config(other), num_classes=network.num_classes)
        return abs(_facts(other, config).total("parameters") / wanted - 1)

    if network.stem == "imagenet":
        return min(_IMAGENET_RESNETS, key=distance)
    nearest = [
        min((f"preact-resnet{9 * units + 2}-{width}" for units in _RESNET_UNITS), key=distance)
        for width in _RESNET_WIDTHS
    ]
    # The first that is near enough, so that it is no wider than it has to be.
    return next((other for other in nearest if distance(other) < _NEAR), min(nearest, key=distance))


def _facts(name: str, network: NetworkConfig) -> LayerTable:
    return layer_table(name, network, (network.default_size,) * network.spatial_dims)
