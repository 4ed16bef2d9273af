"""A network, fused, computes what the reference does; in one, two and three dimensions."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.ops.execution import Execution


def steps(model: DenseNet, x: Tensor, execution: Execution) -> list[Tensor]:
    """Logits, gradients and running statistics after a forward and a backward pass."""
    model = copy.deepcopy(model)
    model.execution = execution
    x = x.clone().requires_grad_()
    logits = model(x)
    logits.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    return [logits.detach(), x.grad, *gradients, *[buffer.double() for buffer in model.buffers()]]


SMALL = DenseNetConfig(
    block_layers=(3, 2),
    growth_rate=5,
    bottleneck=True,
    compression=0.5,
    stem="cifar",
    stem_channels=7,
    num_classes=4,
)


@pytest.mark.usefixtures("backend", "fresh_memory_is_nan")
@pytest.mark.parametrize("execution", ["fused", "fused-lean"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_network_computes_what_the_reference_does(
    dims: int, bottleneck: bool, training: bool, execution: Execution
):
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, bottleneck=bottleneck, spatial_dims=dims)
    assert_equal_steps(config, training, execution)


@pytest.mark.usefixtures("backend", "fresh_memory_is_nan")
@pytest.mark.parametrize("execution", ["fused", "fused-lean"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("width", [1, 2, 7])
def test_other_bottlenecks_and_epsilons(width: int, training: bool, execution: Execution):
    config = dataclasses.replace(SMALL, stem="imagenet", bottleneck_width=width, norm_epsilon=0.1)
    assert_equal_steps(config, training, execution)


def assert_equal_steps(config: DenseNetConfig, training: bool, execution: Execution) -> None:
    model = DenseNet(config, "reference").double().train(training)
    side = 2 * config.smallest_size + 5
    x = torch.randn(3, 3, *[side] * config.spatial_dims, dtype=torch.float64)
    for actual, expected in zip(steps(model, x, execution), steps(model, x, "reference"), strict=True):
        assert (actual - expected).norm() <= 1e-11 * expected.norm() + 1e-12
