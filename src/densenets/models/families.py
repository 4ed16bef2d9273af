"""From what a checkpoint says of its network to the config. Needs no PyTorch."""

from __future__ import annotations

from typing import Any

from densenets.errors import InputError
from densenets.models.baselines.convnet_config import ConvNetConfig
from densenets.models.baselines.fractalnet_config import FractalNetConfig
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network_config import NetworkConfig

FAMILIES: dict[str, type[NetworkConfig]] = {
    config.family: config
    for config in (DenseNetConfig, ResNetConfig, ConvNetConfig, HighwayConfig, FractalNetConfig)
}


def config_from_dict(fields: dict[str, Any]) -> NetworkConfig:
    """The config that `to_dict` of any family was made from; without a family it is a DenseNet's.

    Raises:
        InputError: the family is unknown, or a field is missing, unknown or out of its range.
    """
    family = fields.get("family", DenseNetConfig.family)
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"network family '{family!s:.50}' is unknown; known: {', '.join(FAMILIES)}")
    return FAMILIES[family].from_dict(fields)
