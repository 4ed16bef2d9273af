"""Every execution is the same function: torchvision's, and the paper's equations, forwards and backwards."""

import gc
from typing import Any

import pytest
import torch
import torchvision
from small_networks import small_config
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from densenets.analysis.architecture import network_facts
from densenets.errors import InputError
from densenets.models.config import DenseNetConfig
from densenets.models.densenet import DenseNet
from densenets.models.zoo import named_config
from densenets.ops.execution import EXECUTIONS, choose_execution

# Both sides add up the same float64 numbers, perhaps in another order: float64's 1e-16 grows over a hundred
# layers to some 1e-12 of each tensor's largest value. A missing or doubled term is far above 1e-8.
ROUNDING = 1e-8


def config(**changes: Any) -> DenseNetConfig:
    return small_config(**{"block_layers": (3, 2, 3), **changes})


def randomize(model: nn.Module) -> nn.Module:
    """Float64, with norms whose scales, shifts and statistics are all their own."""
    generator = torch.Generator().manual_seed(1)
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor, centre in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0)):
                nn.init.normal_(tensor, centre, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model


def pair(config: DenseNetConfig, execution: Any) -> tuple[DenseNet, DenseNet]:
    """The same network in the reference execution and in another."""
    reference = randomize(DenseNet(config, "reference", torch.Generator().manual_seed(0)))
    other = DenseNet(config, execution).double()
    other.load_state_dict(reference.state_dict())
    return reference, other


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step(model: nn.Module, x: Tensor, run: Any = None) -> dict[str, Tensor]:
    """Logits, all gradients and all buffers of one forward and backward pass, by the model or by `run`."""
    x = x.clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    logits = (model if run is None else run)(x)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    (logits * weights).sum().backward()
    gradients = {f"gradient of {name}": p.grad.clone() for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return {"logits": logits.detach(), "gradient of x": x.grad, **gradients, **buffers}


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = ROUNDING) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name].double() - value.double()).abs().max().item()
        assert error <= tolerance * value.double().abs().max().item(), f"{name} is off by {error}"


# torchvision


@pytest.fixture(scope="module")
def torchvision_steps() -> dict[tuple[int, bool], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """(depth, training) -> state dict and step of torchvision's network, each made once."""
    return {}


def torchvision_step(depth: int, training: bool, x: Tensor, made: dict) -> tuple[dict, dict]:
    if (depth, training) not in made:
        torch.manual_seed(depth)
        theirs = randomize(getattr(torchvision.models, f"densenet{depth}")(num_classes=11)).train(training)
        state = {key: value.clone() for key, value in theirs.state_dict().items()}
        made[depth, training] = state, step(theirs, x)
    return made[depth, training]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("depth", [121, 169, 201, 161])
def test_equals_torchvision(depth: int, execution: Any, training: bool, torchvision_steps: dict):
    x = images(2, 3, 64, 64)
    state, expected = torchvision_step(depth, training, x, torchvision_steps)
    with torch.device("meta"):
        ours = DenseNet(named_config(f"densenet{depth}"), execution)
        ours.reset_classifier(11)
    ours.load_state_dict({key: value.clone() for key, value in state.items()}, strict=True, assign=True)
    result = step(ours.train(training), x)
    assert_equal(result, expected)
    counted = {value.item() for key, value in result.items() if key.endswith("num_batches_tracked")}
    assert counted == {int(training)}


def test_cifar_network_equals_torchvisions_modules():
    # torchvision builds no CIFAR network, but its modules make one once the large stem is taken out.
    theirs = torchvision.models.DenseNet(12, (3, 3, 3), num_init_features=24, num_classes=5)
    theirs.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    for name in ("norm0", "relu0", "pool0"):
        delattr(theirs.features, name)
    randomize(theirs)
    ours = DenseNet(config(block_layers=(3, 3, 3), growth_rate=12, stem_channels=24), "recompute").double()
    ours.load_state_dict(theirs.state_dict())
    x = images(3, 3, 15, 13)
    assert_equal(step(ours, x), step(theirs, x))


# Each against the reference

CASES = {
    "bottleneck": {},
    "plain": {"bottleneck": False, "compression": 1.0},
    "signal": {"spatial_dims": 1},
    "plain signal": {"spatial_dims": 1, "bottleneck": False},
    "volume": {"spatial_dims": 3, "in_channels": 1, "block_layers": (2, 2)},
    "plain volume": {"spatial_dims": 3, "bottleneck": False, "block_layers": (2, 2)},
    "large stem": {"stem": "imagenet"},
    "one block of one layer": {"block_layers": (1,)},
}
OTHERS = [execution for execution in EXECUTIONS if execution != "reference"]


def case_images(config: DenseNetConfig, seed: int = 0) -> Tensor:
    sides = {1: (61,), 2: (21, 19), 3: (9, 8, 7)}[config.spatial_dims]  # odd, and no two alike
    return images(3, config.in_channels, *sides, seed=seed)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference(case: str, execution: Any, training: bool):
    reference, other = pair(config(**CASES[case]), execution)
    x = case_images(reference.config)
    assert_equal(step(other.train(training), x), step(reference.train(training), x))


@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_running_statistics_move_once_a_step(bottleneck: bool, execution: Any):
    reference, other = pair(config(bottleneck=bottleneck), execution)
    for seed in range(3):
        x = case_images(reference.config, seed)
        expected, result = step(reference, x), step(other, x)
        assert_equal(result, expected)
    assert result["features.denseblock1.denselayer1.norm1.num_batches_tracked"] == 3


@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_equals_the_reference_without_gradients(context: Any, execution: Any, training: bool):
    reference, other = pair(config(), execution)
    x = case_images(reference.config)
    with context():
        expected, logits = reference.train(training)(x), other.train(training)(x)
    assert not logits.requires_grad
    assert_equal(
        {"logits": logits, **dict(other.named_buffers())},
        {"logits": expected, **dict(reference.named_buffers())},
    )


@pytest.mark.parametrize("execution", OTHERS)
def test_norms_keep_constants_of_their_own(execution: Any):
    reference, other = pair(config(), execution)
    for model in (reference, other):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum, module.eps = 0.3, 0.01
    x = case_images(reference.config)
    assert_equal(step(other, x), step(reference, x))


@pytest.mark.parametrize("execution", OTHERS)
def test_frozen_norms_in_a_training_network(execution: Any):
    # As in fine-tuning: statistics stay, gradients pass.
    reference, other = pair(config(), execution)
    for model in (reference, other):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    x = case_images(reference.config)
    result = step(other, x)
    assert_equal(result, step(reference, x))
    assert result["features.transition1.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize("execution", OTHERS)
@pytest.mark.parametrize("bottleneck", [False, True])
def test_same_seed_drops_the_same_values(bottleneck: bool, execution: Any):
    reference, other = pair(config(dropout=0.3, bottleneck=bottleneck), execution)
    x = case_images(reference.config)
    torch.manual_seed(5)
    expected = step(reference, x)
    torch.manual_seed(5)
    assert_equal(step(other, x), expected)
    torch.manual_seed(6)
    assert not torch.equal(step(other, x)["logits"], expected["logits"])


@pytest.mark.parametrize("execution", OTHERS)
def test_equals_the_reference_under_autocast(execution: Any):
    reference, other = pair(config(), execution)
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
    reference, other = pair(config(), "recompute")
    for model in (reference, other):
        for seed in (0, 1):
            model(case_images(model.config, seed)).square().sum().backward()
    assert_equal(
        {name: p.grad for name, p in other.named_parameters()},
        {name: p.grad for name, p in reference.named_parameters()},
    )


# Memory


def kept_bytes(model: DenseNet, x: Tensor) -> int:
    """What a forward pass has allocated and not freed while its output lives."""
    output = model(x)  # the first pass also allocates what stays for good
    del output
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(x)
    kept = sum(event.self_cpu_memory_usage for event in profiler.key_averages())
    assert output.requires_grad
    return kept


@pytest.mark.parametrize("execution", ["reference", "recompute"])
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
    network = config(**changes)
    sides = {2: (64, 64), 3: (16, 16, 16)}[network.spatial_dims]
    batch = 4
    model = DenseNet(network, execution)
    x = torch.randn(batch, network.in_channels, *sides)
    facts = network_facts("network", network, sides)
    image = 4 * network.in_channels * x[0, 0].numel()  # was there before
    expected = batch * (facts.total(f"stored_{execution}") - image)
    # The rest, some 0.2%, is statistics of every norm and what the allocator rounds up.
    assert kept_bytes(model, x) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_recompute_stores_less_for_deep_blocks(training: bool):
    network = config(block_layers=(12, 12, 12), growth_rate=8, stem_channels=16)
    x = torch.randn(4, 3, 32, 32)
    model = DenseNet(network, "reference").train(training)
    reference = kept_bytes(model, x)
    model.execution = "recompute"
    assert kept_bytes(model, x) < 0.55 * reference


# torch.compile


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("execution", ["reference", "recompute"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_compiled_equals_eager(bottleneck: bool, execution: Any, training: bool):
    eager, model = pair(config(block_layers=(2, 2), bottleneck=bottleneck), execution)
    eager.train(training), model.train(training)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for seed in (0, 1):
        x = case_images(model.config, seed)
        assert_equal(step(model, x, compiled), step(eager, x))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("execution", ["reference", "recompute"])
def test_compiled_by_inductor_equals_eager(execution: Any):
    eager, model = pair(config(block_layers=(2,), bottleneck=False), execution)
    compiled = torch.compile(model, backend="inductor", fullgraph=True)
    x = images(2, 3, 8, 8)
    assert_equal(step(model, x, compiled), step(eager, x))


# Names


def test_auto_is_an_execution_that_there_is():
    assert EXECUTIONS[0] == "auto"
    assert {choose_execution(execution) for execution in EXECUTIONS} == {"reference", "recompute"}


def test_unknown_execution_gets_the_nearest():
    with pytest.raises(InputError, match="unknown execution 'referense'; did you mean reference"):
        choose_execution("referense")
