"""Signal and gradient of layers: the numbers, which layers, the settings, and that no trace is left."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.analysis.gradients.layer_flow import Setting, apply_setting, first_to_last_ratio, layer_flows
from densenets.data.batches import Batch
from densenets.models.baselines.resnet import ResNet
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.create import build_network
from densenets.models.densenet import DenseNet
from densenets.models.network import Network
from densenets.weights.pretrained import create_model

SMALL = "densenet-bc-10-4"

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_batch(images: int, channels: int = 3, side: int = 32, dtype: torch.dtype = torch.float32) -> Batch:
    """Noise with labels."""
    x = torch.randn(images, channels, side, side, dtype=dtype, generator=generator())
    return Batch(x, torch.randint(0, 10, (images,), generator=generator()), images)


def named(name: str, **fields: Any) -> Network:
    return create_model(name, generator=generator(), **fields)


def rms(values: Tensor) -> float:
    return math.sqrt(float((values * values).sum()) / values.numel())


class Chain(Network):
    """Two convolutions of one weight each; the logits are 0 and the mean over the image."""

    def __init__(self, first: float, second: float) -> None:
        config = ResNetConfig(
            stage_units=(1,), stage_channels=(1,), unit="basic", pre_activation=False, shortcut="none",
            stem="cifar", stem_channels=1, num_classes=2, in_channels=1,
        )  # fmt: skip
        super().__init__(config)
        self.first, self.second = (nn.Conv2d(1, 1, 1, bias=False).double() for _ in range(2))
        nn.init.constant_(self.first.weight, first)
        nn.init.constant_(self.second.weight, second)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))

    def initialize(self, generator: torch.Generator | None = None) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        mean = self.forward_features(x).mean(dim=(2, 3))
        return torch.cat([torch.zeros_like(mean), mean], dim=1)


def test_two_layers_by_hand() -> None:
    # Images of 1 pixel: 1 of class 0 and -3 of class 1, through the weights 2 and 0.5.
    images = torch.tensor([1.0, -3.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    loss, (first, second) = layer_flows(Chain(2, 0.5), Batch(images, torch.tensor([0, 1]), 2))
    # The logit is the image itself; its gradient is the probability of class 1, less 1 where that is right.
    by_logit = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(3)) - 1]
    assert loss == pytest.approx((math.log(1 + math.e) + math.log(1 + math.exp(3))) / 2)
    assert first.name == "first"
    assert first.signal == pytest.approx(math.sqrt((2**2 + 6**2) / 2))
    assert second.signal == pytest.approx(math.sqrt((1**2 + 3**2) / 2))
    assert second.gradient == pytest.approx(math.hypot(*by_logit) / math.sqrt(2))
    assert first.gradient == pytest.approx(0.5 * math.hypot(*by_logit) / math.sqrt(2))
    # Of the mean loss: what each weight reads times the gradient of what it makes, by 2 images.
    of_second = (2 * by_logit[0] - 6 * by_logit[1]) / 2
    assert second.weight_gradient == pytest.approx(abs(of_second))
    assert second.relative_gradient == pytest.approx(abs(of_second) / 0.5)


@pytest.mark.parametrize("shortcut", ["none", "subsampled"])
def test_a_network_by_another_road(shortcut: Any) -> None:
    """The same numbers from functions and retained gradients, with batch statistics."""
    network_config = ResNetConfig(
        stage_units=(1,), stage_channels=(4,), unit="basic", pre_activation=False, shortcut=shortcut,
        stem="cifar", stem_channels=4,
    )  # fmt: skip
    model = build_network(network_config, generator=generator()).double().eval()
    assert isinstance(model, ResNet)
    batch = a_batch(6, side=5, dtype=torch.float64)
    weights = [w.detach().requires_grad_() for name, w in model.named_parameters() if "conv" in name]

    def norm(x: Tensor) -> Tensor:
        return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()

    made = [functional.conv2d(batch.images, weights[0], padding=1)]
    stem = norm(made[0]).relu()
    made.append(functional.conv2d(stem, weights[1], padding=1))
    made.append(functional.conv2d(norm(made[1]).relu(), weights[2], padding=1))
    last = (norm(made[2]) + (stem if shortcut != "none" else 0)).relu().mean((2, 3))
    for maps in made:
        maps.retain_grad()
    logits = functional.linear(last, model.fc.weight, model.fc.bias)  # type: ignore[arg-type]
    by_hand = -logits.log_softmax(1)[torch.arange(6), batch.labels].sum()
    by_hand.backward()

    loss, layers = layer_flows(model, batch)
    assert [layer.name for layer in layers] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert loss == pytest.approx(by_hand.item() / 6)
    for layer, maps, weight in zip(layers, made, weights, strict=True):
        assert maps.grad is not None
        assert weight.grad is not None
        assert layer.signal == pytest.approx(rms(maps.detach()), rel=1e-9)
        assert layer.gradient == pytest.approx(rms(maps.grad), rel=1e-9)
        assert layer.weight_gradient == pytest.approx(rms(weight.grad / 6), rel=1e-9)
        assert layer.relative_gradient == pytest.approx(rms(weight.grad / 6) / rms(weight.detach()), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("densenet-40-12", 39),
        ("densenet-bc-22-8", 21),
        ("resnet20", 19),
        ("plain-20", 19),
        ("preact-resnet20", 19),  # bottlenecks with projections
        ("preact-resnet20-basic", 19),
        ("stochastic-depth-20", 19),
        ("wrn-16-1", 13),  # 16 counts its three projections
        ("highway-17-4", 16),  # with a gate a layer
        ("fractalnet-20-4-drop-path", 20),  # the deepest of three columns
        ("nin", 9),
        ("dsn", 9),
        ("resnet18", 17),
    ],
)
def test_as_many_layers_as_the_network_is_deep(name: str, layers: int) -> None:
    model = named(name).train()
    _, flows = layer_flows(model, a_batch(2))
    assert len(flows) == layers
    # All but the classifier, which is a convolution in some.
    depth = 18 if name == "resnet18" else model.config.depth
    assert layers == depth - isinstance(model.get_submodule(model.config.head), nn.Linear)
    assert not any("gate" in layer.name or "downsample" in layer.name for layer in flows)
    assert all(value for layer in flows for value in dataclasses.astuple(layer))


def test_layers_come_in_the_order_of_the_path() -> None:
    _, flows = layer_flows(named("densenet-bc-22-8"), a_batch(2))
    names = [layer.name.removeprefix("features.") for layer in flows]
    assert names[:3] == ["conv0", "denseblock1.denselayer1.conv1", "denseblock1.denselayer1.conv2"]
    assert names[7:9] == ["transition1.conv", "denseblock2.denselayer1.conv1"]


@pytest.mark.parametrize(
    "name",
    [
        "densenet-bc-22-8",
        "wrn-10-1",
        "stochastic-depth-20",
        "highway-17-4",
        "fractalnet-10-4-drop-path",
        "dsn",
    ],
)
def test_measuring_leaves_no_trace(name: str) -> None:
    model, batch = named(name).train(), a_batch(4)
    model.paths.seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy(model)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = layer_flows(model, batch)
    assert torch.equal(state, torch.get_rng_state())
    assert model.paths.draw() == before.paths.draw()
    for key, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    assert all(parameter.grad is not None and parameter.grad.eq(1).all() for parameter in model.parameters())
    assert [module.training for module in model.modules()] == [True] * len(list(model.modules()))
    assert not any(module._forward_hooks for module in model.modules())
    if isinstance(model, DenseNet):
        assert model.execution == "auto"
    # Nothing random is in it, nor the running statistics.
    with torch.no_grad():
        assert layer_flows(model.eval(), batch) == first


@pytest.mark.parametrize(("setting", "gain"), [("xavier", 1), ("he", 2)])
@pytest.mark.parametrize("name", ["densenet-bc-22-8", "preact-resnet20", "highway-17-16"])
def test_a_setting_draws_all_convolutions_alike_and_takes_batch_norm_out(
    name: str, setting: Setting, gain: int
) -> None:
    model = named(name)
    head = model.get_submodule(model.config.head)
    classifier = copy.deepcopy(head.state_dict())
    apply_setting(model, setting, generator(5))
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
    for key, value in classifier.items():
        assert torch.equal(head.state_dict()[key], value)
    convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for key, convolution in convolutions.items():
        weight = convolution.weight.detach()
        if weight.numel() > 500:
            assert rms(weight) ** 2 * weight[0].numel() == pytest.approx(gain, rel=0.25)
        if convolution.bias is not None:
            assert set(convolution.bias.tolist()) == {-2.0 if key.endswith("gate") else 0.0}
    again = named(name)
    apply_setting(again, setting, generator(5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_papers_setting_changes_nothing() -> None:
    model, same = named(SMALL), named(SMALL)
    apply_setting(model, "paper", generator(9))
    assert str(model) == str(same)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_networks_with_two_sets_of_statistics_train_without_any() -> None:
    model = named("fractalnet-10-2-drop-path").train()
    apply_setting(model, "xavier", generator())
    for seed in range(6):  # columns alone, and joined
        model.paths.seed(seed)
        logits = model(a_batch(2).images)
        assert isinstance(logits, Tensor)
        logits.sum().backward()


def test_a_layer_that_gets_nothing_has_zeros() -> None:
    _, layers = layer_flows(Chain(2, 0), Batch(torch.ones(2, 1, 1, 1).double(), torch.tensor([0, 1]), 2))
    assert layers[0].gradient == 0
    assert layers[1].signal == 0
    assert layers[1].relative_gradient is None  # nothing to be relative to


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([8.0, 1.0, 2.0], 4.0),
        ([1.0, 100.0, *[7.0] * 16, 0.5, 0.5], 20.0),  # geometric: 10 by 0.5
        ([1.0, *[7.0] * 8, 2.0], 0.5),
        ([3.0], 1.0),
        ([0.0, 1.0], 0.0),
        ([1.0, 0.0], None),
        ([None, 1.0], None),
        ([1e-300, *[1.0] * 9, 1.0], 1e-150),
        ([], None),
    ],
)
def test_the_first_tenth_by_the_last(values: list[float | None], expected: float | None) -> None:
    assert first_to_last_ratio(values) == (expected if expected is None else pytest.approx(expected))
