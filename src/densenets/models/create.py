"""From a name to a network."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from densenets.models.config import Stem
from densenets.models.densenet import DenseNet
from densenets.models.zoo import named_config
from densenets.ops.execution import Execution


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    execution: Execution = "auto",
    block_layers: tuple[int, ...] | None = None,
    growth_rate: int | None = None,
    bottleneck: bool | None = None,
    compression: float | None = None,
    stem: Stem | None = None,
    stem_channels: int | None = None,
    dropout: float | None = None,
    spatial_dims: int | None = None,
    generator: torch.Generator | None = None,
) -> DenseNet:
    """A freshly initialised network of the zoo, such as "densenet121" or "densenet-bc-100-12".

    Any other field of `DenseNetConfig` can be given; None keeps the named network's own.

    Args:
        name: a name of the zoo, or densenet[-b|-c|-bc]-DEPTH-GROWTH.
        num_classes: 10 for CIFAR's networks and 1000 for ImageNet's unless given.
        in_channels: 3 unless given; 1 for X-rays and most volumes.
        execution: how the dense blocks run; the weights never show it.
        generator: where the initial weights are drawn from.

    Raises:
        InputError: the name or the execution is unknown, or the network cannot be.
    """
    fields = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "block_layers": block_layers,
        "growth_rate": growth_rate,
        "bottleneck": bottleneck,
        "compression": compression,
        "stem": stem,
        "stem_channels": stem_channels,
        "dropout": dropout,
        "spatial_dims": spatial_dims,
    }
    given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}
    return DenseNet(dataclasses.replace(named_config(name), **given), execution, generator)
