"""Residual networks: torchvision as oracle, shortcuts, what survives, and what the equations say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from densenets.errors import InputError
from densenets.models.baselines.resnet import PostActivationUnit, PreActivationUnit, ResNet
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.registry import named_config
from densenets.weights.pretrained import create_model


def small(**changes: Any) -> ResNetConfig:
    """Three stages of 1, 2 and 1 basic units."""
    config = named_config("resnet8")
    assert isinstance(config, ResNetConfig)
    fields: dict[str, Any] = {"stage_units": (1, 2, 1), "stage_channels": (4, 8, 12), "stem_channels": 4}
    return dataclasses.replace(config, **{**fields, **changes})


def network(**changes: Any) -> ResNet:
    """In float64, with norms that do something."""
    generator = torch.Generator().manual_seed(0)
    model = ResNet(small(**changes), generator).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
            nn.init.normal_(module.running_mean, 0, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model


def image(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_weights_give_torchvisions_logits_and_gradients(name: str) -> None:
    torchvision_net = getattr(torchvision.models, name)(num_classes=7).double()
    resnet = create_model(name, num_classes=7).double()
    resnet.load_state_dict(torchvision_net.state_dict())
    x = image(2, 3, 65, 70)
    for model in (resnet, torchvision_net):
        model(x).square().sum().backward()
    torch.testing.assert_close(resnet(x), torchvision_net(x))
    for (key, parameter), (_, other) in zip(
        resnet.named_parameters(), torchvision_net.named_parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, other.grad, msg=key)


def test_a_post_activation_unit_is_the_papers_equation() -> None:
    model = network().eval()
    unit = model.get_submodule("layer2.0")
    assert isinstance(unit, PostActivationUnit)
    x = image(2, 4, 9, 9)
    residual = unit.bn2(unit.conv2(unit.bn1(unit.conv1(x)).relu()))
    # Option A: every other pixel, and channels of zeros.
    past = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 4, 5, 5, dtype=x.dtype)], dim=1)
    torch.testing.assert_close(unit(x), (past + residual).relu())


def test_pooled_shortcuts_take_means() -> None:
    unit = network(shortcut="pooled").eval().get_submodule("layer2.0")
    assert isinstance(unit, PostActivationUnit)
    x = image(1, 4, 8, 8)
    past = unit.apply_shortcut(x)
    torch.testing.assert_close(past[:, :4], functional.avg_pool2d(x, 2))
    assert not past[:, 4:].any()
    assert unit(image(1, 4, 9, 7)).shape == (1, 8, 5, 4)  # odd sides round up, as the convolution does


def test_a_preactivation_unit_is_the_papers_equation() -> None:
    model = network(pre_activation=True).eval()
    same, changing = model.get_submodule("layer2.1"), model.get_submodule("layer2.0")
    assert isinstance(same, PreActivationUnit)
    assert isinstance(changing, PreActivationUnit)
    x = image(2, 8, 6, 6)
    residual = same.conv2(same.bn2(same.conv1(same.bn1(x).relu())).relu())
    torch.testing.assert_close(same(x), x + residual)
    x = image(2, 4, 6, 6)
    residual = changing.conv2(changing.bn2(changing.conv1(changing.bn1(x).relu())).relu())
    torch.testing.assert_close(changing(x)[:, :4], x[:, :, ::2, ::2] + residual[:, :4])


def test_a_projection_reads_the_activated_input() -> None:
    unit = network(pre_activation=True, shortcut="projection").eval().get_submodule("layer2.0")
    assert isinstance(unit, PreActivationUnit)
    x = image(2, 4, 6, 6)
    activated = unit.bn1(x).relu()
    residual = unit.conv2(unit.bn2(unit.conv1(activated)).relu())
    torch.testing.assert_close(unit(x), unit.downsample(activated) + residual)


def test_bottlenecks_work_on_a_quarter_of_the_channels() -> None:
    config = named_config("preact-resnet164")
    with torch.device("meta"):
        model = create_model("preact-resnet164")
    shapes = [model.get_submodule(f"layer3.5.conv{n}").weight.shape for n in (1, 2, 3)]
    assert [tuple(shape) for shape in shapes] == [(64, 256, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1)]
    assert isinstance(config, ResNetConfig)
    assert [unit.stride for unit in config.units()].count(2) == 2


def test_a_plain_network_has_nothing_that_leads_past_a_unit() -> None:
    model = network(shortcut="none").eval()
    assert {key for key, _ in model.named_parameters()} == {key for key, _ in network().named_parameters()}
    unit = model.get_submodule("layer1.0")
    assert isinstance(unit, PostActivationUnit)
    x = image(2, 4, 6, 6)
    torch.testing.assert_close(unit(x), unit.bn2(unit.conv2(unit.bn1(unit.conv1(x)).relu())).relu())


def test_dropout_is_between_the_convolutions_of_a_wide_resnet() -> None:
    model = network(pre_activation=True, shortcut="projection", dropout=0.5)
    unit = model.get_submodule("layer2.1")
    assert isinstance(unit, PreActivationUnit)
    seen: dict[str, Tensor] = {}
    for name in ("conv1", "conv2"):
        unit.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
    torch.manual_seed(0)
    unit(image(64, 8, 6, 6))
    zeros = {name: float((x == 0).double().mean()) for name, x in seen.items()}
    # ReLU leaves about half; dropout takes half of that.
    assert zeros["conv2"] - zeros["conv1"] == pytest.approx(0.25, abs=0.1)


# Stochastic depth


def stochastic(**changes: Any) -> ResNet:
    return network(shortcut="pooled", last_survival=0.5, stage_units=(3, 3, 2), **changes)


def test_survival_decays_linearly_to_the_last_unit() -> None:
    config = named_config("stochastic-depth-110")
    assert isinstance(config, ResNetConfig)
    survival = [unit.survival for unit in config.units()]
    assert len(survival) == 54
    for number, probability in enumerate(survival, start=1):
        assert probability == pytest.approx(1 - number / 54 * 0.5)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_units_survive_as_often_as_they_should(pre_activation: bool) -> None:
    model = stochastic(pre_activation=pre_activation)
    units = [unit for unit in model.modules() if isinstance(unit, PostActivationUnit | PreActivationUnit)]
    counts = dict.fromkeys(units, 0)
    for unit in units:
        last = unit.conv2
        last.register_forward_hook(lambda *_, unit=unit: counts.update({unit: counts[unit] + 1}))
    model.paths.seed(0)
    steps, x = 400, image(2, 3, 4, 4)
    with torch.no_grad():
        for _ in range(steps):
            model(x)
    for unit in units:
        # Four standard deviations of the share that survives.
        assert abs(counts[unit] / steps - unit.survival) < 4 * (0.25 / steps) ** 0.5
    assert units[0].survival == 1 - 0.5 / 8
    assert counts[units[-1]] < counts[units[0]]


def test_a_unit_that_is_left_out_is_its_shortcut_and_learns_nothing() -> None:
    model = stochastic()
    unit = model.get_submodule("layer3.1")
    assert isinstance(unit, PostActivationUnit)
    model.paths.draw = lambda: 0.99  # type: ignore[method-assign]
    before = {key: value.clone() for key, value in unit.state_dict().items()}
    x = image(2, 12, 4, 4).requires_grad_()
    unit(x).sum().backward()
    torch.testing.assert_close(unit(x), x.relu())
    assert all(parameter.grad is None for parameter in unit.parameters())
    assert all(torch.equal(value, before[key]) for key, value in unit.state_dict().items())


def test_at_test_time_every_unit_is_scaled_by_its_survival() -> None:
    model = stochastic().eval()
    unit = model.get_submodule("layer3.1")
    assert isinstance(unit, PostActivationUnit)
    assert unit.survival == 0.5
    x = image(2, 12, 4, 4)
    residual = unit.bn2(unit.conv2(unit.bn1(unit.conv1(x)).relu()))
    torch.testing.assert_close(unit(x), (x + 0.5 * residual).relu())


def test_the_same_seed_leaves_out_the_same_units() -> None:
    model, x = stochastic(), image(2, 3, 4, 4)
    logits = []
    for seed in (1, 1, 2):
        model.paths.seed(seed)
        torch.manual_seed(len(logits))  # what dropout draws from, and no unit's survival
        logits.append(model(x))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


@pytest.mark.parametrize(("fan", "values"), [("fan_in", 9 * 12), ("fan_out", 9 * 12 * 4)])
def test_initial_weights_have_hes_deviation(fan: str, values: int) -> None:
    config = small(initialization=fan, stage_channels=(12, 12, 48), stage_units=(1, 1, 1))
    weight = ResNet(config, torch.Generator().manual_seed(0)).get_submodule("layer3.0.conv1").weight
    assert weight.shape == (48, 12, 3, 3)
    assert float(weight.detach().std()) == pytest.approx((2 / values) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_units": ()}, r"stage_units must be .*, got \(\)"),
        ({"stage_units": (1, 0, 1)}, r"stage_units must be at least 1 in every stage, got \(1, 0, 1\)"),
        ({"stage_channels": (4, 8)}, r"stage_channels must be 3 numbers of at least 1, got \(4, 8\)"),
        ({"unit": "wide"}, "unit 'wide' is unknown; known: basic, bottleneck"),
        ({"shortcut": "identity"}, "shortcut 'identity' is unknown"),
        ({"stem": "large"}, "stem 'large' is unknown"),
        ({"initialization": "xavier"}, "initialization 'xavier' is unknown"),
        ({"last_survival": 0.0}, r"last_survival must be a probability in \(0, 1\], got 0.0"),
        (
            {"last_survival": 0.5, "shortcut": "none"},
            "last_survival must be 1 where no shortcut leads past a unit, got 0.5",
        ),
        ({"dropout": 0.3}, "dropout is for basic units with pre-activation"),
        ({"dropout": 1.0, "pre_activation": True}, r"dropout must be a probability in \[0, 1\), got 1.0"),
        (
            {"unit": "bottleneck", "stage_channels": (4, 8, 10)},
            r"stage_channels must be multiples of 4 for bottlenecks, got \(4, 8, 10\)",
        ),
        (
            {"stage_channels": (4, 8, 6)},
            r"stage_channels must not descend from stem_channels 4 on .*, got \(4, 8, 6\)",
        ),
        ({"stem_channels": 0}, "stem_channels must be .*, got 0"),
        ({"in_channels": 0}, "in_channels must be .*, got 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_a_fresh_classifier_has_torchvisions_name() -> None:
    model = network()
    model.reset_classifier(3)
    assert model(image(2, 3, 8, 8)).shape == (2, 3)
    assert model.state_dict()["fc.weight"].shape == (3, 12)
    assert model.config.num_classes == 3
