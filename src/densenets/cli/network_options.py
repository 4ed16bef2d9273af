"""The network that a verb shows: a named one, a checkpoint's, or a bare dense block.

Needs no PyTorch unless a checkpoint is named.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from densenets.models.densenet_rows import block_config, block_table
from densenets.models.layer_rows import LayerTable
from densenets.models.layer_table import layer_table
from densenets.models.network_config import NetworkConfig
from densenets.models.network_input import for_input, read_shape
from densenets.models.registry import named_config

DENSE_BLOCK = "dense-block"  # in the place of a model's name


@dataclass(frozen=True)
class NetworkOptions:
    """The network that is shown, and for what input."""

    model: str
    """A name of the zoo, a run's folder, a checkpoint, or dense-block for a bare block."""
    input: str = ""
    """Channels and sides, such as 3x32x32; by default those that the network was made for."""
    layers: int = 5
    """Of dense-block: its layers."""
    growth_rate: int = 4
    """Of dense-block: channels that a layer adds."""
    bottleneck: bool = False
    """Of dense-block: a 1x1 convolution before each 3x3."""
    num_classes: int = 0
    """Width of the classifier; 0 for the model's own."""


def shown_network(options: NetworkOptions) -> tuple[NetworkConfig, LayerTable]:
    """The config and the layer table of the network that is shown; dense-block ends with a transition.

    Raises:
        InputError: no network has this name, the file is no checkpoint, or a number is out of its range.
    """
    if options.model == DENSE_BLOCK:
        channels, *block_sides = read_shape(options.input or "1x32x32")
        numbers = channels, options.layers, options.growth_rate
        config = block_config(*numbers, len(block_sides), bottleneck=options.bottleneck)
        return config, block_table(*numbers, tuple(block_sides), bottleneck=options.bottleneck)
    network, sides = for_input(_config_of(options.model), options.input)
    network = dataclasses.replace(network, num_classes=options.num_classes or network.num_classes)
    return network, layer_table(options.model, network, sides)


def _config_of(model: str) -> NetworkConfig:
    if not Path(model).exists():
        return named_config(model)
    from densenets.checkpoint import read_checkpoint

    return read_checkpoint(model).model.config
