"""Networks built from a config, freshly initialised."""

from __future__ import annotations

import torch

from densenets.errors import InputError
from densenets.models.network import Network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import family_of
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
