"""Every execution is the same function: torchvision's, and the paper's equations, forwards and backwards."""

from typing import Any

import pytest
import torch
import torchvision
from network_steps import (
    CASES,
    assert_equal,
    case_config,
    case_images,
    images,
    kept_bytes,
    pair,
    randomize,
    step,
)
from quick_tests import every
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.models.densenet import DenseNet
from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config
from densenets.ops.execution import EXECUTIONS

# torchvision


@pytest.fixture(scope="module")
def torchvision_steps() -> dict[tuple[int, bool], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """(depth, training) -> state dict and step of torchvision's network, each made once."""
    return {}


def torchvision_step(depth: int, training: bool, x: Tensor, cache: dict) -> tuple[dict, dict]:
    if (depth, training) not in cache:
        torch.manual_seed(depth)
        torchvision_model = randomize(getattr(torchvision.models, f"densenet{depth}")(num_classes=11)).train(
            training
        )
        state = {key: value.clone() for key, value in torchvision_model.state_dict().items()}
        cache[depth, training] = state, step(torchvision_model, x)
    return cache[depth, training]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@every(
    "depth, execution",
    [*((121, execution) for execution in EXECUTIONS), (169, "auto"), (201, "auto"), (161, "auto")],
    quick=lambda depth, _: depth == 121,
)
def test_equals_torchvision(depth: int, execution: Any, training: bool, torchvision_steps: dict):
    x = images(2, 3, 64, 64)
    state, expected = torchvision_step(depth, training, x, torchvision_steps)
    with torch.device("meta"):
        model = DenseNet(named_config(f"densenet{depth}"), execution)
        model.reset_classifier(11)
    model.load_state_dict({key: value.clone() for key, value in state.items()}, strict=True, assign=True)
    result = step(model.train(training), x)
    assert_equal(result, expected)
    counted = {value.item() for key, value in result.items() if key.endswith("num_batches_tracked")}
    assert counted == {int(training)}


def test_cifar_network_equals_torchvisions_modules():
    # torchvision builds no CIFAR network, but its modules make one once the large stem is taken out.
    torchvision_model = torchvision.models.DenseNet(12, (3, 3, 3), num_init_features=24, num_classes=5)
    torchvision_model.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(torchvision_model.features, name)
    randomize(torchvision_model)
    network = case_config(block_layers=(3, 3, 3), growth_rate=12, stem_channels=24)
    model = DenseNet(network, "recompute").double()
    model.load_state_dict(torchvision_model.state_dict())
    x = images(3, 3, 15, 13)
    assert_equal(step(model, x), step(torchvision_model, x))


# Each against the reference

OTHERS = [execution for execution in EXECUTIONS if execution != "reference"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, execution: Any, training: bool):
    reference, other = pair(case_config(case), execution)
    x = case_images(reference.config)
    assert_equal(step(other.train(training), x), step(reference.train(training), x))


@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_running_statistics_move_once_a_step(bottleneck: bool, execution: Any):
    reference, other = pair(case_config(bottleneck=bottleneck), execution)
    for seed in range(3):
        x = case_images(reference.config, seed)
        expected, result = step(reference, x), step(other, x)
        assert_equal(result, expected)
    assert result["features.denseblock1.denselayer1.norm1.num_batches_tracked"] == 3


@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_equals_the_reference_without_gradients(context: Any, execution: Any, training: bool):
    reference, other = pair(case_config(), execution)
    x = case_images(reference.config)
    with context():
        expected, logits = reference.train(training)(x), other.train(training)(x)
    assert not logits.requires_grad
    assert_equal(
        {"result": logits, **dict(other.named_buffers())},
        {"result": expected, **dict(reference.named_buffers())},
    )


@pytest.mark.parametrize("execution", OTHERS)
def test_norms_keep_constants_of_their_own(execution: Any):
    reference, other = pair(case_config(), execution)
    for model in (reference, other):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = 0.3, 0.01
    x = case_images(reference.config)
    assert_equal(step(other, x), step(reference, x))


@pytest.mark.parametrize("execution", OTHERS)
def test_frozen_norms_in_a_training_network(execution: Any):
    # As in fine-tuning: statistics stay, gradients pass.
    reference, other = pair(case_config(), execution)
    for model in (reference, other):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    x = case_images(reference.config)
    result = step(other, x)
    assert_equal(result, step(reference, x))
    assert result["features.transition1.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize("bottleneck", [False, True])
def test_same_seed_drops_the_same_values(bottleneck: bool):
    # The fused executions draw masks in another order: test_fused.py.
    reference, other = pair(case_config(dropout=0.3, bottleneck=bottleneck), "recompute")
    x = case_images(reference.config)
    torch.manual_seed(5)
    expected = step(reference, x)
    torch.manual_seed(5)
    assert_equal(step(other, x), expected)
    torch.manual_seed(6)
    assert not torch.equal(step(other, x)["result"], expected["result"])


def test_equals_the_reference_under_autocast():
    # The fused executions round at other places: test_fused.py.
    reference, other = pair(case_config(), "recompute")
    x = case_images(reference.config).float()

    def under_autocast(model: DenseNet) -> dict[str, Tensor]:
        def run(x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return model(x).float()

        return step(model.float(), x, run)

    expected = under_autocast(reference)
    assert expected["features.norm5.running_mean"].dtype == torch.float32
    # bfloat16 keeps 8 bits; both round the same numbers at the same places.
    assert_equal(under_autocast(other), expected, tolerance=2**-8)


def test_gradients_add_up_over_micro_batches():
    reference, other = pair(case_config(), "recompute")
    for model in (reference, other):
        for seed in (0, 1):
            model(case_images(model.config, seed)).square().sum().backward()
    assert_equal(
        {name: p.grad for name, p in other.named_parameters()},
        {name: p.grad for name, p in reference.named_parameters()},
    )


# Memory


@every(
    "execution",
    [execution for execution in EXECUTIONS if execution != "auto"],
    quick=lambda execution: execution.startswith("fused"),
)
@pytest.mark.parametrize(
    "changes",
    [
        {"block_layers": (6, 6, 6), "growth_rate": 8, "stem_channels": 16},
        {"block_layers": (6, 6, 6), "growth_rate": 8, "bottleneck": False, "compression": 1.0},
        {"block_layers": (3, 6, 4), "growth_rate": 8, "stem_channels": 16, "stem": "imagenet"},
        {"block_layers": (1,), "growth_rate": 2, "stem_channels": 32, "stem": "imagenet"},
        {"block_layers": (4, 4), "spatial_dims": 3, "in_channels": 1},
    ],
    ids=["bottleneck", "plain", "large stem", "mostly stem", "volume"],
)
def test_stores_what_the_facts_say(changes: dict[str, Any], execution: Any):
    network = case_config(**changes)
    sides = {2: (64, 64), 3: (16, 16, 16)}[network.spatial_dims]
    batch = 4
    model = DenseNet(network, execution)
    # Fused stems and blocks read channels-last images; they would keep a copy of others.
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[network.spatial_dims]
    x = torch.randn(batch, network.in_channels, *sides).to(memory_format=layout)
    facts = layer_table("network", network, sides)
    image = 4 * network.in_channels * x[0, 0].numel()  # was there before
    expected = batch * (facts.total(f"stored_{execution.replace('-', '_')}") - image)
    # The rest is statistics of every norm, two numbers a channel, and what the allocator rounds up; where a
    # norm may run again, also those that it began with, and the state of the random numbers.
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    rest = sum(8 * norm.num_features for norm in norms)
    if execution == "recompute":
        rest = 2 * rest + len(norms) * (torch.get_rng_state().numel() + 64)
    assert kept_bytes(model, x) == pytest.approx(expected, abs=rest + 0.002 * expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.slow
def test_recompute_stores_less_for_deep_blocks(training: bool):
    network = case_config(block_layers=(12, 12, 12), growth_rate=8, stem_channels=16)
    x = torch.randn(4, 3, 32, 32)
    model = DenseNet(network, "reference").train(training)
    reference = kept_bytes(model, x)
    model.execution = "recompute"
    assert kept_bytes(model, x) < 0.55 * reference


# torch.compile


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", ["reference", "recompute"])
@pytest.mark.slow
def test_compiled_equals_eager(execution: Any, training: bool):
    eager, model = pair(case_config(block_layers=(2, 2)), execution)
    eager.train(training), model.train(training)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in (0, 1):
        x = case_images(model.config, seed)
        assert_equal(step(model, x, compiled), step(eager, x))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("execution", ["reference", "recompute"])
@pytest.mark.slow
def test_compiled_by_inductor_equals_eager(execution: Any):
    eager, model = pair(case_config(block_layers=(2,), bottleneck=False), execution)
    compiled = torch.compile(model, backend="inductor", fullgraph=True)
    x = images(2, 3, 8, 8)
    assert_equal(step(model, x, compiled), step(eager, x))
