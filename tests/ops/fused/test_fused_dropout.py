"""Dropout inside the fused units: what is dropped, how often, and what the gradient makes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, case_images, images, pair, randomize, step
from small_networks import small_config
from torch import Tensor, nn
from torch.nn import functional

from densenets.models.densenet import DenseBlock, DenseNet, Transition
from densenets.ops.backends.block_plan import BlockPlan
from densenets.ops.fused.eligibility import layer_units
from densenets.ops.fused.operators import dense_block_operator
from densenets.ops.layers import UnitModules

DROP = 0.3
EXECUTION = pytest.mark.parametrize("execution", ["fused", "fused-lean"])
BOTTLENECK = pytest.mark.parametrize("bottleneck", [False, True])


def block(bottleneck: bool, drop: float = DROP, layers: int = 3, growth_rate: int = 4) -> DenseBlock:
    config = small_config(
        block_layers=(layers,), bottleneck=bottleneck, dropout=drop, growth_rate=growth_rate
    )
    model = randomize(DenseNet(config, generator=torch.Generator().manual_seed(0)))
    dense_block = model.features.denseblock1
    assert isinstance(dense_block, DenseBlock)
    return dense_block


def masked_block(x: Tensor, layers: list[nn.Module], dropout_masks: list[Tensor]) -> Tensor:
    """The block by PyTorch's own operations, with these masks: P x channels of every convolution."""
    features, masks = x, iter(dropout_masks)
    for layer in layers:
        out = features
        for norm, _, conv, _ in layer_units(layer):
            out = masked_unit(out, norm, conv, next(masks))
        features = torch.cat([features, out], dim=1)
    return features


def masked_unit(x: Tensor, norm: Any, conv: Any, dropout_mask: Tensor) -> Tensor:
    normalised = functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    out = conv(functional.relu(normalised))
    mask = dropout_mask.view(len(x), *x.shape[2:], -1).movedim(-1, 1)
    return out * mask / (1 - DROP)


def operator(x: Tensor, units: list[UnitModules], masks: list[Tensor], plan: BlockPlan) -> Tensor:
    parameters = [p for norm, _, conv, _ in units for p in (norm.weight, norm.bias, conv.weight)]
    features, *_ = dense_block_operator(x, parameters, [], masks, plan.epsilons, plan.dropout, plan.text)
    return features


@BOTTLENECK
@pytest.mark.parametrize("keep_bottlenecks", [False, True])
def test_gradient_flows_through_what_is_kept(keep_bottlenecks: bool, bottleneck: bool, backend: str):
    modules = block(bottleneck)
    layers = list(modules.values())
    units = [unit for layer in layers for unit in layer_units(layer)]
    x = images(3, 8, 7, 5)
    generator = torch.Generator().manual_seed(4)
    masks = [
        torch.empty(3 * 7 * 5, conv.out_channels, dtype=torch.uint8).bernoulli_(1 - DROP, generator=generator)
        for _, _, conv, _ in units
    ]
    plan = BlockPlan(
        backend=backend,
        layer_units=1 + bottleneck,
        epsilons=tuple(norm.eps for norm, *_ in units),
        dropout=DROP,
        training=True,
        synchronized=False,
        has_transition=False,
        transition_pools=False,
        keep_bottlenecks=keep_bottlenecks,
    )
    expected = step(modules, x, lambda x: masked_block(x, layers, masks))
    actual = step(modules, x, lambda x: operator(x, units, masks, plan))
    assert_equal(actual, expected, 1e-10)  # float64 in another order; a mask less is off by the value itself


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_share_of_zeros_and_scale_of_the_rest(execution: Any):
    x = images(4, 8, 16, 16)
    modules = block(bottleneck=False, layers=1, growth_rate=16).train()
    modules.execution = execution
    torch.manual_seed(0)
    actual = modules(x)[:, 8:]
    next(iter(modules.values())).dropout1.p = 0.0
    whole = modules(x)[:, 8:]
    dropped = actual == 0
    # Of a binomial distribution: four standard deviations. So is each channel's and each image's own share.
    for share in (dropped, *dropped.unbind(0), *dropped.unbind(1)):
        deviation = math.sqrt(DROP * (1 - DROP) / share.numel())
        assert abs(share.double().mean().item() - DROP) < 4 * deviation
    # What is kept is scaled so that the expectation stays.
    torch.testing.assert_close(actual[~dropped], whole[~dropped] / (1 - DROP))
    assert not modules(x[:, :, :4, :4])[:, :8].eq(0).any(), "the block's input is not dropped"


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_masks_differ_by_unit_and_by_call(execution: Any):
    modules = block(bottleneck=False, layers=3).train()
    modules.execution = execution
    x = images(2, 8, 9, 9)
    drops = [modules(x)[:, 8:].eq(0).split(4, dim=1) for _ in range(2)]
    masks = [mask for call in drops for mask in call]
    for index, mask in enumerate(masks):
        # Independent masks agree in 58% of their places; equal ones in all.
        assert all(mask.eq(other).double().mean() < 0.8 for other in masks[:index])


@pytest.mark.usefixtures("backend")
@EXECUTION
@BOTTLENECK
def test_a_seed_decides_and_evaluation_has_none(bottleneck: bool, execution: Any):
    reference, fused = pair(case_config(dropout=DROP, bottleneck=bottleneck), execution)
    x = case_images(fused.config)
    start = {key: value.clone() for key, value in fused.state_dict().items()}
    outcomes = []
    for seed in (5, 5, 6):
        fused.load_state_dict(start)
        torch.manual_seed(seed)
        outcomes.append(step(fused, x))
    assert all(torch.equal(value, outcomes[0][name]) for name, value in outcomes[1].items())
    assert not torch.equal(outcomes[2]["result"], outcomes[0]["result"])
    fused.load_state_dict(start)
    assert_equal(step(fused.eval(), x), step(reference.eval(), x), 1e-10)


@pytest.mark.usefixtures("backend")
@EXECUTION
def test_statistics_are_those_of_what_dropout_left(execution: Any):
    # A layer's statistics, taken where it is made, are what the next layer's normalisation sees.
    modules = block(bottleneck=False, layers=2, growth_rate=16).train()
    modules.execution = execution
    second = list(modules.values())[1].norm1
    second.momentum = 1.0
    out = modules(images(4, 8, 16, 16))[:, : second.num_features]
    torch.testing.assert_close(second.running_mean, out.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(second.running_var, out.transpose(0, 1).flatten(1).var(dim=1))


@pytest.mark.usefixtures("backend")
@EXECUTION
@pytest.mark.parametrize("side", [8, 9])
def test_transition_drops_between_convolution_and_pooling(side: int, execution: Any):
    config = small_config(dropout=DROP)
    model = randomize(DenseNet(config, execution, torch.Generator().manual_seed(0)))
    transition = model.features.transition1
    assert isinstance(transition, Transition)
    x = images(3, transition.norm.num_features, side, side)

    def expected(x: Tensor) -> Tensor:
        out = transition.conv(transition.relu(transition.norm(x))).to(memory_format=torch.channels_last)
        return transition.pool(out * transition.dropout(torch.ones_like(out)))

    start = {key: value.clone() for key, value in transition.state_dict().items()}
    torch.manual_seed(2)
    actual = step(transition, x)
    transition.load_state_dict(start)
    torch.manual_seed(2)
    assert_equal(actual, step(transition, x, expected), 1e-10)
