"""Names and what they stand for. Needs no PyTorch."""

from __future__ import annotations

import dataclasses

from densenets.errors import unknown_name
from densenets.models.network_config import NetworkConfig
from densenets.models.registry.baselines import PEER_FORMS, PEERS, peer_config
from densenets.models.registry.densenets import DENSENETS, densenet_config
from densenets.models.registry.entry import PublishedErrors, ZooEntry
from densenets.models.registry.family_labels import kind_of

__all__ = [
    "DENSENETS",
    "NAME_FORMS",
    "PEERS",
    "ZOO",
    "PublishedErrors",
    "ZooEntry",
    "kind_of",
    "named_config",
]

ZOO: dict[str, ZooEntry] = DENSENETS | PEERS

NAME_FORMS = ("densenet[-b|-c|-bc]-DEPTH-GROWTH", *PEER_FORMS)


def named_config(name: str) -> NetworkConfig:
    """The config of a name: one of `ZOO`, or one of `NAME_FORMS` by the papers' rules.

    Raises:
        InputError: no network has this name, or its depth cannot be.
    """
    if name in ZOO:
        return ZOO[name].config
    config = densenet_config(name) or peer_config(name)
    if config is None:
        raise unknown_name("model", name, [*ZOO, "densenet-bc-DEPTH-GROWTH"])
    return config


def name_of(config: NetworkConfig) -> str | None:
    """The name in `ZOO` of a network, whatever its classes and channels; None if it has none."""
    plain = {"num_classes": 10, "in_channels": 3, "spatial_dims": 2}

    def core(network: NetworkConfig) -> NetworkConfig:
        return dataclasses.replace(network, **plain)

    return next((name for name, entry in ZOO.items() if core(entry.config) == core(config)), None)
