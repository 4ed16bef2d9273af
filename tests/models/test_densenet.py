import copy
import itertools
import math
from typing import Any

import pytest
import torch
import torchvision
from small_networks import small_config
from torch import Tensor, nn
from torch.nn import functional

from densenets.errors import InputError
from densenets.models.densenet import DenseNet, Transition
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config
from densenets.ops.execution import EXECUTIONS
from densenets.weights.pretrained import create_model

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def small_model(seed: int = 0, **changes: Any) -> DenseNet:
    """A float64 network whose norms have scales, shifts and statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    model = DenseNet(small_config(**changes), generator=generator).double()
    for module in model.modules():
        if isinstance(module, NORMS):
            for tensor, centre in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0)):
                nn.init.normal_(tensor, centre, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depth", [121, 169, 201, 161])
def test_keys_and_shapes_are_torchvisions(depth: int):
    with torch.device("meta"):
        torchvision_net = getattr(torchvision.models, f"densenet{depth}")()
        densenet = DenseNet(named_config(f"densenet{depth}"))
    assert [(key, value.shape) for key, value in densenet.state_dict().items()] == [
        (key, value.shape) for key, value in torchvision_net.state_dict().items()
    ]


def equations(weights: dict[str, Tensor], config: DenseNetConfig, x: Tensor) -> Tensor:
    """The paper's equations in evaluation mode, straight from the weights; CIFAR's stem."""
    convolution = (functional.conv1d, functional.conv2d, functional.conv3d)[config.spatial_dims - 1]
    pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[config.spatial_dims - 1]

    def norm_relu(x: Tensor, key: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"features.{key}.{name}"].view(-1, *[1] * config.spatial_dims)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + config.norm_epsilon).sqrt() * scale + shift).clamp(min=0)

    def conv(x: Tensor, key: str, padding: int) -> Tensor:
        return convolution(x, weights[f"features.{key}.weight"], padding=padding)

    x = conv(x, "conv0", 1)
    for block, layers in enumerate(config.block_layers, start=1):
        for layer in range(1, layers + 1):
            key = f"denseblock{block}.denselayer{layer}"
            if config.bottleneck:
                narrow = conv(norm_relu(x, f"{key}.norm1"), f"{key}.conv1", 0)
                new = conv(norm_relu(narrow, f"{key}.norm2"), f"{key}.conv2", 1)
            else:
                new = conv(norm_relu(x, f"{key}.norm1"), f"{key}.conv1", 1)
            x = torch.cat([x, new], dim=1)
        if block < len(config.block_layers):
            key = f"transition{block}"
            x = pool(conv(norm_relu(x, f"{key}.norm"), f"{key}.conv", 0), 2)
    x = norm_relu(x, "norm5").flatten(2).mean(2)
    return x @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("compression", [1.0, 0.4])
@pytest.mark.parametrize("sides", [(9,), (9, 7), (5, 4, 7)])
def test_logits_are_the_papers_equations(bottleneck: bool, compression: float, sides: tuple[int, ...]):
    model = small_model(bottleneck=bottleneck, compression=compression, spatial_dims=len(sides)).eval()
    x = image(2, 3, *sides)
    expected = equations(model.state_dict(), model.config, x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_epsilon_and_width_of_the_bottleneck_are_the_configs():
    model = small_model(bottleneck=True, bottleneck_width=3, norm_epsilon=0.25).eval()
    x = image(2, 3, 9, 7)
    expected = equations(model.state_dict(), model.config, x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
    assert model.features.denseblock1.denselayer1.conv1.out_channels == 3 * model.config.growth_rate


# Sizes


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_smallest_size_is_enough_and_nothing_smaller(stem: str, blocks: int):
    model = DenseNet(small_config(stem=stem, block_layers=(1,) * blocks)).eval()
    size = model.config.smallest_size
    assert model.forward_features(torch.zeros(1, 3, size, size)).shape[2:] == (1, 1)
    with pytest.raises(InputError, match=f"too small .* at least {size}x{size} pixels"):
        model(torch.zeros(1, 3, 64, size - 1))
    if size > 1:
        with pytest.raises(RuntimeError):  # the check does not refuse what would have worked
            model.features(torch.zeros(1, 3, 64, size - 1))


@pytest.mark.parametrize("spatial_dims", [1, 3])
def test_smallest_size_of_signals_and_volumes(spatial_dims: int):
    model = DenseNet(small_config(stem="imagenet", spatial_dims=spatial_dims)).eval()
    assert model(torch.zeros(2, 3, *[5] * spatial_dims)).shape == (2, 5)
    with pytest.raises(InputError, match="too small"):
        model(torch.zeros(2, 3, *[4] * spatial_dims))


def test_wrong_channels_are_refused_before_anything_runs():
    model = DenseNet(small_config(in_channels=1))
    for forward in (model, model.forward_features, model.forward_intermediates):
        with pytest.raises(InputError, match="has 3 channels; this network reads 1"):
            forward(torch.zeros(1, 3, 8, 8))


# Features


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize(
    ("stem", "strides"), [("cifar", [1, 2, 4]), ("imagenet", [2, 4, 8, 16])], ids=["cifar", "imagenet"]
)
def test_intermediates_are_what_the_activations_see(stem: str, strides: list[int], execution: Any):
    model = small_model(stem=stem, block_layers=(2, 1, 3)).eval()
    model.execution = "reference"
    x = image(2, 3, 32, 48)
    seen: list[Tensor] = []
    hooks = []
    for name, module in model.named_modules():
        if name == "relu5" or name.endswith("relu0") or ("transition" in name and name.endswith("relu")):
            hooks.append(module.register_forward_hook(lambda module, inputs, output: seen.append(output)))
    model(x)
    expected = dict(zip(strides, seen, strict=True))

    for hook in hooks:  # a fused execution has no such modules to hook
        hook.remove()
    model.execution = execution
    maps = model.forward_intermediates(x)

    assert list(maps) == strides
    assert model.feature_channels == {stride: features.shape[1] for stride, features in maps.items()}
    for stride, features in maps.items():
        assert features.shape[2:] == (32 // stride, 48 // stride)
        torch.testing.assert_close(features, expected[stride])
    torch.testing.assert_close(maps[strides[-1]], model.forward_features(x))


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_intermediates_count_a_training_batch_once(execution: Any):
    model, plain = small_model().train(), small_model().train()
    model.execution = execution
    model.forward_intermediates(image(2, 3, 8, 8))
    plain(image(2, 3, 8, 8))
    for (key, buffer), expected in zip(model.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=lambda text, key=key: f"{key}: {text}")


def test_reset_classifier_changes_nothing_but_the_classifier():
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    model.reset_classifier(7, torch.Generator().manual_seed(3))
    assert model(image(2, 3, 8, 8)).shape == (2, 7)
    assert model.classifier.weight.dtype == torch.float64
    assert not model.classifier.bias.any()
    for key, value in model.eval().state_dict().items():
        if not key.startswith("classifier.") and not key.endswith(("running_mean", "running_var", "tracked")):
            assert torch.equal(value, before[key])

    again = small_model()
    again.reset_classifier(7, torch.Generator().manual_seed(3))
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_a_classifier_of_ones_own_can_be_reset():
    model = small_model()
    model.classifier = nn.Sequential(nn.Linear(model.config.num_features, 3), nn.ReLU()).double()
    model.reset_classifier(7)
    assert model(image(2, 3, 8, 8)).shape == (2, 7)


def test_reset_classifier_is_known_to_the_config():
    # A checkpoint is rebuilt from the config: weights and config must not come apart.
    model = small_model()
    model.reset_classifier(7)
    assert model.config.num_classes == 7


def test_identity_as_classifier_gives_the_pooled_features():
    model = small_model().eval()
    model.classifier = nn.Identity()
    x = image(2, 3, 8, 12)
    pooled = model(x)
    assert pooled.shape == (2, model.config.num_features)
    torch.testing.assert_close(pooled, model.forward_features(x).mean(dim=(2, 3)))


# Hooks


def test_no_activation_works_in_place():
    model = DenseNet(small_config(stem="imagenet", dropout=0.2))
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["relu5", "norm5", "denseblock2", "transition1"])
def test_hooks_see_maps_and_their_gradients(execution: Any, name: str):
    model = small_model().eval()
    model.execution = execution
    seen: dict[str, Tensor] = {}
    module = model.relu5 if name == "relu5" else model.features.get_submodule(name)
    module.register_forward_hook(lambda module, inputs, output: seen.update(output=output))
    module.register_full_backward_hook(lambda module, into, out: seen.update(gradient=out[0]))

    logit = model(image(1, 3, 8, 8).requires_grad_())[0, 2]
    (expected,) = torch.autograd.grad(logit, seen["output"], retain_graph=True)
    seen.pop("gradient", None)
    logit.backward()

    assert expected.any()
    torch.testing.assert_close(seen["gradient"], expected)
    if name == "norm5":  # what relu5 makes of it later must not have changed it
        assert (seen["output"] < 0).any()


# Dropout


def leaves_in_order(model: DenseNet, x: Tensor) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """Name, module, input and output of every leaf module of the features, as they run."""
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    for name, module in model.features.named_modules():
        if not list(module.children()):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: calls.append((name, module, inputs[0], output))
            )
    model(x)
    return calls


# The fused executions have no modules to watch: "auto" gives way, and test_fused.py has the others.
@pytest.mark.parametrize("execution", ["auto", "reference", "recompute"])
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_dropout_follows_every_convolution_but_the_first(stem: Any, bottleneck: bool, execution: Any):
    config = small_config(stem=stem, bottleneck=bottleneck, dropout=0.2)
    calls = leaves_in_order(DenseNet(config, execution), torch.randn(2, 3, 32, 32))
    dropped = []
    for (name, module, _, _), (_, follower, _, _) in itertools.pairwise(calls):
        if isinstance(module, CONVOLUTIONS):
            dropped.append((name, isinstance(follower, nn.Dropout)))

    layers = [f"denseblock1.denselayer{n}" for n in (1, 2)], [f"denseblock2.denselayer{n}" for n in (1, 2, 3)]
    convolutions = ["conv1", "conv2"] if bottleneck else ["conv1"]
    first, second = ([f"{layer}.{conv}" for layer in block for conv in convolutions] for block in layers)
    assert dropped == [("conv0", False), *((name, True) for name in [*first, "transition1.conv", *second])]
    assert sum(isinstance(module, nn.Dropout) for _, module, _, _ in calls) == len(dropped) - 1


def test_dropout_zeroes_its_share_and_scales_the_rest():
    torch.manual_seed(0)
    model = DenseNet(small_config(dropout=0.2))
    calls = leaves_in_order(model, torch.randn(4, 3, 32, 32))
    for name, module, before, after in calls:
        if isinstance(module, nn.Dropout):
            dropped = after == 0
            # The smallest map has 4 x 4 x 16 x 16 values: 0.02 are over three standard deviations.
            assert dropped.double().mean().item() == pytest.approx(0.2, abs=0.025), name
            torch.testing.assert_close(after[~dropped], before[~dropped] / 0.8)


def test_dropout_rests_in_evaluation():
    model = small_model(dropout=0.5)
    x = image(2, 3, 8, 8)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    without = small_model(dropout=0.0).eval()
    without.load_state_dict(model.state_dict())
    assert torch.equal(model(x), without(x))


# Initialisation


def test_convolutions_start_with_the_variance_of_fan_out():
    generator = torch.Generator().manual_seed(0)
    config = small_config(block_layers=(1, 1), growth_rate=32, stem="imagenet", stem_channels=96)
    model = DenseNet(config, generator=generator)
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 6
    for name, module in convolutions.items():
        fan_out = math.prod(module.kernel_size) * module.out_channels
        std = module.weight.std().item()
        # Over 8,000 normal values each: a standard deviation's own error is below 0.8%.
        assert std == pytest.approx(math.sqrt(2 / fan_out), rel=0.03), name
        assert abs(module.weight.mean().item()) < 0.05 * std, name
        assert module.weight.abs().max().item() > 3 * std, f"{name} is not normal"
        fan_in = math.prod(module.kernel_size) * module.in_channels
        if fan_in != fan_out:
            assert std != pytest.approx(math.sqrt(2 / fan_in), rel=0.1), name


def test_norms_start_at_one_and_zero_and_the_classifiers_bias_at_zero():
    model = DenseNet(small_config(stem="imagenet"))
    norms = [module for module in model.modules() if isinstance(module, NORMS)]
    assert len(norms) == 1 + 2 * 5 + 1 + 1
    for norm in norms:
        assert (norm.weight == 1).all()
        assert not norm.bias.any()
        assert not norm.running_mean.any()
        assert (norm.running_var == 1).all()
    assert not model.classifier.bias.any()
    assert model.classifier.weight.any()


def test_generator_decides_the_weights():
    def weights(seed: int) -> dict[str, Tensor]:
        model = create_model("densenet-22-8", generator=torch.Generator().manual_seed(seed))
        return model.state_dict()

    first, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], same[key]) for key in first)
    drawn = [key for key in first if "conv" in key or key == "classifier.weight"]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


def test_initialize_forgets_what_was_trained():
    model = small_model(seed=1)
    model.initialize(torch.Generator().manual_seed(0))
    fresh = DenseNet(small_config(), generator=torch.Generator().manual_seed(0)).double()
    # Float64 weights are drawn from other random bits than float32 ones; all else is equal.
    fresh.initialize(torch.Generator().manual_seed(0))
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


# Executions, as the model shows them


def test_execution_can_be_switched_and_never_shows_in_the_weights():
    model = DenseNet(small_config())
    state = model.state_dict()
    runners = [m for m in model.modules() if hasattr(m, "execution")]
    assert len(runners) == 5  # the model, its features, two blocks and a transition
    for execution in EXECUTIONS:
        model.execution = execution
        assert {runner.execution for runner in runners} == {execution}
        assert list(model.state_dict()) == list(state)
        DenseNet(small_config(), execution).load_state_dict(state, strict=True)
    assert any(isinstance(runner, Transition) for runner in runners)


def test_unknown_execution_gets_the_nearest():
    message = "unknown execution 'recomputed'; did you mean recompute"
    with pytest.raises(InputError, match=message):
        DenseNet(small_config(), "recomputed")
    model = DenseNet(small_config(), "recompute")
    with pytest.raises(InputError, match=message):
        model.execution = "recomputed"
    assert model.execution == "recompute"
