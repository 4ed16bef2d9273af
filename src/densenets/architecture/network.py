"""The facts of any network, by arithmetic on its config: none is built. Needs no PyTorch."""

from __future__ import annotations

from densenets.architecture.densenet import densenet_layers
from densenets.architecture.facts import NetworkFacts
from densenets.architecture.peers import peer_layers
from densenets.models.configs.base import NetworkConfig
from densenets.models.configs.densenet import DenseNetConfig


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
