"""The facts of any network, by arithmetic on its config: none is built. Needs no PyTorch."""

from __future__ import annotations

from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_table.baseline_rows import peer_layers
from densenets.models.layer_table.densenet_rows import densenet_layers
from densenets.models.layer_table.rows import NetworkFacts
from densenets.models.network_config import NetworkConfig


def network_facts(name: str, config: NetworkConfig, sides: tuple[int, ...]) -> NetworkFacts:
    """The facts of a whole network for images of the given sides.

    Raises:
        InputError: the image is too small for the network.
    """
    config.check_input((config.in_channels, *sides))
    layers = (
        densenet_layers(config, sides) if isinstance(config, DenseNetConfig) else peer_layers(config, sides)
    )
    return NetworkFacts(name=name, input_shape=(config.in_channels, *sides), layers=tuple(layers))
