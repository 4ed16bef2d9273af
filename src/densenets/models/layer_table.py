"""The layer table of any network, computed from its config without building it. Needs no PyTorch."""

from __future__ import annotations

from densenets.models.layer_rows import LayerTable
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import family_of


def layer_table(name: str, config: NetworkConfig, sides: tuple[int, ...]) -> LayerTable:
    """The layer table of a whole network for images of the given sides.

    Raises:
        InputError: the image is too small for the network.
    """
    config.check_input((config.in_channels, *sides))
    rows = family_of(config).layer_rows(config, sides)
    return LayerTable(name=name, input_shape=(config.in_channels, *sides), layers=tuple(rows))
