"""What a training step costs: multiply-adds by arithmetic, time and memory measured. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_rows import LayerTable
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import named_config
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import MeasuredStep, measured_step, step_figures
from densenets.profiling.step import StepConfig
from densenets.subprocess_jobs import JobFailure

_BACKWARD = 2  # forward passes that a backward pass takes by arithmetic
_FLOPS = 2  # of a multiply-add
_IMAGENET_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_RESNET_UNITS = range(1, 19)  # a stage, up to the 164 layers whose errors the paper compares
_RESNET_WIDTHS = (16, 32, 48, 64, 96, 128)  # channels that a stage begins with; 16 is the paper's
_NEAR = 0.04  # of the parameters

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CostConfig:
    """Whose steps are measured, and on what images.

    Attributes:
        models: names; all are measured on the same images.
        executions: of DenseNets; others have one.
        step: what all steps have in common; its network says which images and classes.

    Raises:
        InputError: a model is named twice, or an image is too small for one.
    """

    models: tuple[str, ...]
    executions: tuple[Execution, ...]
    step: StepConfig

    def __post_init__(self) -> None:
        if len(set(self.models)) < len(self.models):
            raise InputError(f"models must be named once each, got {' '.join(self.models)}")
        if not self.models or not self.executions:
            raise InputError("at least one model and one execution are needed")
        for _ in self.steps():
            pass

    def steps(self) -> list[tuple[str, StepConfig]]:
        """The name of every network, and its step in every execution that it has."""
        steps = []
        for name in self.models:
            network = self.network(name)
            executions = self.executions if isinstance(network, DenseNetConfig) else ("reference",)
            steps += [
                (name, dataclasses.replace(self.step, network=network, execution=execution))
                for execution in executions
            ]
        return steps

    def network(self, name: str) -> NetworkConfig:
        """The network of a name, for the images of all."""
        images = self.step.network
        return dataclasses.replace(
            named_config(name), in_channels=images.in_channels, num_classes=images.num_classes
        )


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


def step_costs(config: CostConfig, announce: Callable[[str], None]) -> list[Row]:
    """Measure every network in every execution, each in processes of its own.

    Args:
        config: what is measured.
        announce: told of each measurement before it is made.

    Returns:
        A row each: model, execution, depth, parameters and multiply_adds (of a forward pass of one
        image); milliseconds an image of forward_ms, backward_ms, optimizer_ms and step_ms; forward_gigaflops
        and backward_gigaflops, the additions and multiplications a second that the arithmetic asks for
        (what is made again is not counted); memory_bytes at the peak; batch; ran, the
        execution that an asked-for one became, and why; device. Or "failed", the reason.
    """
    rows = []
    for name, step in config.steps():
        announce(f"{name}, {step.execution}")
        rows.append(cost_row(name, step, measured_step(step)))
    return rows


def cost_row(name: str, step: StepConfig, cost: MeasuredStep | JobFailure) -> Row:
    """A row of `step_costs` from what `measured_step` returned."""
    figures = step_figures(cost)
    facts = layer_table(name, step.network, step.sides)
    multiply_adds = facts.total("multiply_adds")
    row: Row = {
        "model": name,
        "execution": step.execution,
        "depth": step.network.depth,
        "parameters": facts.total("parameters"),
        "multiply_adds": multiply_adds,
        "batch": step.batch,
        "forward_ms": figures.forward_ms,
        "backward_ms": figures.backward_ms,
        "step_ms": figures.step_ms,
        "memory_bytes": figures.memory_bytes,
    }
    if isinstance(cost, JobFailure):
        return {**row, "failed": cost.reason}
    gigaflops = _FLOPS * multiply_adds * step.batch / 1e9
    return {
        **row,
        "ran": cost.ran,
        "device": cost.device,
        "optimizer_ms": figures.optimizer_ms,
        "forward_gigaflops": gigaflops / cost.forward_seconds,
        "backward_gigaflops": _BACKWARD * gigaflops / cost.backward_seconds,
    }


def compared_to_last(rows: Sequence[Row]) -> list[Row]:
    """Each row's parameters, multiply-adds, times and memory by those of the last row that was measured.

    Returns:
        A row each with model, execution and the ratios by the names of the quantities; None where one of the
        two is not known.
    """
    measured = [row for row in rows if "failed" not in row]
    last = measured[-1] if measured else {}
    names = ("parameters", "multiply_adds", "forward_ms", "backward_ms", "step_ms", "memory_bytes")
    return [
        {
            "model": row["model"],
            "execution": row["execution"],
            **{name: row[name] / last[name] if row.get(name) and last.get(name) else None for name in names},
        }
        for row in rows
    ]
