"""All variants are one network with the same weights, on the same batch."""

from __future__ import annotations

import pytest
import torch

from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.networks import random_batch, step_network
from densenets.profiling.variants import named_variant

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "in_channels", "side"), [("densenet-bc-22-8", 1, 9), ("densenet121", 2, 32)]
)
@pytest.mark.parametrize(
    "name", ["torchvision", "torchvision-channels-last", "torchvision-memory-efficient", "recompute"]
)
def test_every_variant_computes_the_same(model: str, in_channels: int, side: int, name: str) -> None:
    config = BenchmarkConfig(
        model=model, batch=2, input=f"{in_channels}x{side}x{side}", variants=("reference", name)
    )
    logits = []
    for variant in map(named_variant, config.variants):
        step = config.step(variant)
        network = step_network(step, CPU).eval()
        assert all(parameter.requires_grad for parameter in network.parameters())
        with torch.no_grad():
            logits.append(network(random_batch(step, CPU)[0]))
    expected, got = logits
    # Float32 of some hundred layers, added up in another order.
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_channels_last_is_how_weights_and_images_lie() -> None:
    config = BenchmarkConfig(model="densenet121", batch=2, input="3x32x32", variants=("torchvision",))
    step = config.step(named_variant("torchvision-channels-last"))
    weight = step_network(step, CPU).get_parameter("features.conv0.weight")
    for tensor in (weight, random_batch(step, CPU)[0]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
