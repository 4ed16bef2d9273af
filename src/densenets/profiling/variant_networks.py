"""From a variant to the network and the batch that it runs on; the weights are the same in all of them.

Shapes: N batch, C channels, *sides the spatial sides.
"""

from __future__ import annotations

from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from densenets.models.create import build_network
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import BOTTLENECK_WIDTH, DenseNetConfig
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.variants import Variant

_WEIGHTS_SEED, _BATCH_SEED = 0, 1


def variant_network(config: BenchmarkConfig, variant: Variant) -> nn.Module:
    """The network of a variant, in training mode."""
    generator = torch.Generator().manual_seed(_WEIGHTS_SEED)
    if not variant.is_torchvision:
        return build_network(config.network, variant.execution, generator)
    assert isinstance(config.network, DenseNetConfig)
    weights = DenseNet(config.network, "reference", generator).state_dict()
    # Without memory of its own: it takes the tensors over, so that none of them is counted twice.
    with torch.device("meta"):
        network = _torchvision_network(config.network, memory_efficient=variant.memory_efficient)
    network.load_state_dict(weights, assign=True)
    if variant.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return cast(nn.Module, torch.compile(network)) if variant.compiled else network


def make_batch(config: BenchmarkConfig, variant: Variant) -> tuple[Tensor, Tensor]:
    """Random images N x C x *sides and labels N, the same for every variant."""
    generator = torch.Generator().manual_seed(_BATCH_SEED)
    images = torch.randn(config.batch, config.in_channels, *config.sides, generator=generator)
    labels = torch.randint(config.network.num_classes, (config.batch,), generator=generator)
    if variant.channels_last:
        images = images.to(memory_format=torch.channels_last)
    return images, labels


def _torchvision_network(network: DenseNetConfig, *, memory_efficient: bool) -> nn.Module:
    model = torchvision.models.DenseNet(
        growth_rate=network.growth_rate,
        block_config=network.block_layers,
        num_init_features=network.stem_channels,
        bn_size=BOTTLENECK_WIDTH,
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
    return model
