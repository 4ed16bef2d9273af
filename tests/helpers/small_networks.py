"""Configs of networks that are small enough to be run in every test."""

from __future__ import annotations

from typing import Any

from densenets.models.densenet_config import DenseNetConfig


def small_config(**changes: Any) -> DenseNetConfig:
    """Two -BC blocks of 2 and 3 layers, k = 4, for 5 classes of CIFAR's images, with some fields changed."""
    fields: dict[str, Any] = {
        "block_layers": (2, 3),
        "growth_rate": 4,
        "bottleneck": True,
        "compression": 0.5,
        "stem": "cifar",
        "stem_channels": 8,
        "num_classes": 5,
    }
    return DenseNetConfig(**{**fields, **changes})
