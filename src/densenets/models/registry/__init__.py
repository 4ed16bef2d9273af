"""Registry of the networks, by name, and of their families. Needs no PyTorch.

A network is added in the file of its family: `densenets`, `convnets`, `highway_networks`, `fractalnets` or
`resnets`; a family by a new file and its line in `FAMILIES` and `BASELINES`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from densenets.errors import InputError, unknown_name
from densenets.models.network_config import NetworkConfig
from densenets.models.registry.convnets import CONVNET_FAMILY
from densenets.models.registry.densenets import DENSENET_FAMILY
from densenets.models.registry.entry import Architecture, Family, NetworkEntry, PublishedErrors
from densenets.models.registry.fractalnets import FRACTALNET_FAMILY
from densenets.models.registry.highway_networks import HIGHWAY_FAMILY
from densenets.models.registry.resnets import RESNET_FAMILY

__all__ = [
    "BASELINES",
    "DENSENETS",
    "FAMILIES",
    "NAME_FORMS",
    "NETWORKS",
    "Architecture",
    "Family",
    "NetworkEntry",
    "PublishedErrors",
    "config_from_dict",
    "family_of",
    "name_of",
    "named_config",
    "network_entry",
]

FAMILIES: dict[str, Family[Any]] = {
    family.config.family: family
    for family in (DENSENET_FAMILY, RESNET_FAMILY, CONVNET_FAMILY, HIGHWAY_FAMILY, FRACTALNET_FAMILY)
}
NAME_FORMS = tuple(form for family in FAMILIES.values() for form in family.name_forms)

DENSENETS: dict[str, NetworkEntry] = dict(DENSENET_FAMILY.networks)
# In the order of the paper's Table 2.
BASELINES: dict[str, NetworkEntry] = {
    name: entry
    for family in (CONVNET_FAMILY, HIGHWAY_FAMILY, FRACTALNET_FAMILY, RESNET_FAMILY)
    for name, entry in family.networks.items()
}
NETWORKS: dict[str, NetworkEntry] = DENSENETS | BASELINES


def network_entry(name: str) -> NetworkEntry:
    """The entry of a network's name: one of `NETWORKS`, or one of the form of a `NAME_FORMS`.

    Raises:
        InputError: no network has this name, or no network of the rule has its depth or width.
    """
    entry = NETWORKS.get(name) or _entry_by_rule(name)
    if entry is None:
        raise unknown_name("model", name, [*NETWORKS, "densenet-bc-DEPTH-GROWTH"])
    return entry


def named_config(name: str) -> NetworkConfig:
    """The config of a network's name; see `network_entry`.

    Raises:
        InputError: no network has this name, or no network of the rule has its depth or width.
    """
    return network_entry(name).config


def name_of(config: NetworkConfig) -> str | None:
    """The name of a config in `NETWORKS`, whatever its classes and channels; None if it has none."""
    plain = {"num_classes": 10, "in_channels": 3, "spatial_dims": 2}

    def core(network: NetworkConfig) -> NetworkConfig:
        return dataclasses.replace(network, **plain)

    return next((name for name, entry in NETWORKS.items() if core(entry.config) == core(config)), None)


def family_of(config: NetworkConfig) -> Family[Any]:
    """The family that a config belongs to."""
    return FAMILIES[config.family]


def config_from_dict(fields: dict[str, Any]) -> NetworkConfig:
    """The config of a dict from any family's `to_dict`; without "family" it is a DenseNet's.

    Raises:
        InputError: the family is unknown, or a field is missing, unknown or out of its range.
    """
    family = fields.get("family", DENSENET_FAMILY.config.family)
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"network family '{family!s:.50}' is unknown; known: {', '.join(FAMILIES)}")
    return FAMILIES[family].config.from_dict(fields)


def _entry_by_rule(name: str) -> NetworkEntry | None:
    """The entry of a name by an architecture's name rules; None for a name of another form."""
    for family in FAMILIES.values():
        for architecture in family.architectures:
            for pattern, config_of in architecture.name_rules:
                if match := re.fullmatch(pattern, name):
                    numbers = (int(number) for number in match.groups() if number is not None)
                    return architecture.entry(config_of(*numbers))
    return None
