"""The network and the batch of a step; all implementations have the same weights and the same images.

Shapes: N batch, C channels, *sides the spatial sides.
"""

from __future__ import annotations

from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from densenets.models.create import build_network
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.profiling.step import StepConfig

_WEIGHTS_SEED, _BATCH_SEED = 0, 1


def step_network(config: StepConfig, device: torch.device) -> nn.Module:
    """The network of a step, in training mode."""
    generator = torch.Generator().manual_seed(_WEIGHTS_SEED)
    network: nn.Module
    if config.implementation == "densenets":
        network = build_network(config.network, config.execution, generator)
    else:
        assert isinstance(config.network, DenseNetConfig)
        weights = DenseNet(config.network, "reference", generator).state_dict()
        # Without memory of its own: it takes the tensors over, so that none of them is counted twice.
        with torch.device("meta"):
            network = _torchvision_network(config.network, memory_efficient=config.memory_efficient)
        network.load_state_dict(weights, assign=True)
    network = network.to(device)
    if config.channels_last:
        network = network.to(memory_format=_channels_last(config))
    return cast(nn.Module, torch.compile(network)) if config.compiled else network


def random_batch(config: StepConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images N x C x *sides and labels N on the device, the same for every implementation."""
    generator = torch.Generator().manual_seed(_BATCH_SEED)
    network = config.network
    images = torch.randn(config.batch, network.in_channels, *config.sides, generator=generator)
    labels = torch.randint(network.num_classes, (config.batch,), generator=generator)
    if config.channels_last:
        images = images.to(memory_format=_channels_last(config))
    return images.to(device), labels.to(device)


def _channels_last(config: StepConfig) -> torch.memory_format:
    return torch.channels_last_3d if len(config.sides) == 3 else torch.channels_last


def _torchvision_network(network: DenseNetConfig, *, memory_efficient: bool) -> nn.Module:
    model = torchvision.models.DenseNet(
        growth_rate=network.growth_rate,
        block_config=network.block_layers,
        num_init_features=network.stem_channels,
        bn_size=network.bottleneck_width,
        num_classes=network.num_classes,
        memory_efficient=memory_efficient,
    )
    channels, stem = network.in_channels, network.stem_channels
    if network.stem == "imagenet":
        model.features.conv0 = nn.Conv2d(channels, stem, 7, stride=2, padding=3, bias=False)
    else:
        model.features.conv0 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        for name in ("norm0", "relu0", "pool0"):
            model.features.set_submodule(name, nn.Identity())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = network.norm_epsilon
    return model
