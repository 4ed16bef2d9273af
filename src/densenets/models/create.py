"""Networks built from a name or a config, freshly initialised."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from densenets.errors import InputError
from densenets.models.densenet_config import Stem
from densenets.models.network import Network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import family_of, named_config
from densenets.ops.execution import Execution


def build_network(
    config: NetworkConfig, execution: Execution = "auto", generator: torch.Generator | None = None
) -> Network:
    """Build the module of a config, freshly initialised.

    Args:
        config: of any family.
        execution: how dense blocks run; networks without any take only "auto" and "reference".
        generator: where the initial weights are drawn from; PyTorch's own without one.

    Raises:
        InputError: the network has no such execution.
    """
    family = family_of(config)
    if not family.has_dense_blocks and execution not in ("auto", "reference"):
        raise InputError(f"execution '{execution}' is for dense blocks, and a {config.title} has none")
    return family.build(config, execution, generator)


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
    bottleneck_width: int | None = None,
    dropout: float | None = None,
    norm_epsilon: float | None = None,
    spatial_dims: int | None = None,
    generator: torch.Generator | None = None,
) -> Network:
    """Build a named network, freshly initialised, such as "densenet121", "densenet-bc-100-12" or "resnet50".

    Any other field of a `DenseNetConfig` can be given; None leaves the named network's value.

    Args:
        name: one of `registry.NETWORKS`, or one by the rules, such as densenet[-b|-c|-bc]-DEPTH-GROWTH.
        num_classes: 10 for CIFAR's networks and 1000 for ImageNet's unless given.
        in_channels: 3 unless given; 1 for X-rays and most volumes.
        execution: how the dense blocks run; the weights never show it.
        generator: where the initial weights are drawn from.

    Raises:
        InputError: the name or the execution is unknown, the network has no such field, or a value is out
            of its range.
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
        "bottleneck_width": bottleneck_width,
        "dropout": dropout,
        "norm_epsilon": norm_epsilon,
        "spatial_dims": spatial_dims,
    }
    given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}
    config = named_config(name)
    if unknown := given.keys() - {field.name for field in dataclasses.fields(config)}:
        raise InputError(f"{name} is a {config.title}, which has no {min(unknown)}")
    return build_network(dataclasses.replace(config, **given), execution, generator)
