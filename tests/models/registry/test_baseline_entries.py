"""The networks that DenseNet is compared with: their names, counts, depths and published errors."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from baseline_counts import COUNTED, MISPRINTED, PRINTED

from densenets.errors import InputError
from densenets.models.baselines.resnet_config import ResNetConfig
from densenets.models.network import Network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import (
    BASELINES,
    FAMILIES,
    NETWORKS,
    config_from_dict,
    named_config,
    network_entry,
)
from densenets.models.registry.entry import Family
from densenets.weights.pretrained import create_model

TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")

# The paper's Table 2: C10, C10+, C100, C100+, SVHN.
ERRORS = {
    "nin": (10.41, 8.81, 35.68, None, 2.35),
    "all-cnn": (9.08, 7.25, None, 33.71, None),
    "dsn": (9.69, 7.97, None, 34.57, 1.92),
    "highway-19": (None, 7.72, None, 32.39, None),
    "fractalnet-20": (10.18, 5.22, 35.34, 23.30, 2.01),
    "fractalnet-20-drop-path": (7.33, 4.60, 28.20, 23.73, 1.87),
    "resnet110": (13.63, 6.61, 44.74, 27.22, 2.01),
    "stochastic-depth-110": (11.66, 5.23, 37.80, 24.58, 1.75),
    "stochastic-depth-1202": (None, 4.91, None, None, None),
    "wrn-16-8": (None, 4.81, None, 22.07, None),
    "wrn-28-10": (None, 4.17, None, 20.50, None),
    "wrn-16-4": (None, None, None, None, 1.64),
    "preact-resnet164": (11.26, 5.46, 35.58, 24.33, None),
    "preact-resnet1001": (10.56, 4.62, 33.47, 22.71, None),
}


def meta(name: str) -> Network:
    with torch.device("meta"):
        return create_model(name)


def parameters(name: str) -> int:
    """All but those of companion classifiers, which training alone uses and no paper counts."""
    return sum(p.numel() for key, p in meta(name).named_parameters() if not key.startswith("companions"))


@pytest.mark.parametrize("name", PRINTED)
def test_parameters_are_those_that_the_authors_print(name: str) -> None:
    # All-CNN prints "about 1.3M" and has 1.37M; the others are right to their last digit.
    assert parameters(name) / 1e6 == pytest.approx(PRINTED[name], rel=0.06, abs=0.05)


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_that_others_count(name: str) -> None:
    assert parameters(name) == COUNTED[name]


@pytest.mark.parametrize("name", MISPRINTED)
def test_two_printed_counts_are_not_what_the_rules_give(name: str) -> None:
    assert NETWORKS[name].printed_parameters == MISPRINTED[name]
    assert abs(parameters(name) / 1e6 - MISPRINTED[name]) > 4


@pytest.mark.parametrize("name", TORCHVISION)
def test_imagenet_networks_are_torchvisions_key_for_key(name: str) -> None:
    with torch.device("meta"):
        torchvision_net = getattr(torchvision.models, name)()
    assert [(key, value.shape) for key, value in meta(name).state_dict().items()] == [
        (key, value.shape) for key, value in torchvision_net.state_dict().items()
    ]


@pytest.mark.parametrize("name", ERRORS)
def test_published_errors_are_those_of_table_2(name: str) -> None:
    columns = zip(("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn"), ERRORS[name], strict=True)
    assert BASELINES[name].published.top1 == {column: error for column, error in columns if error is not None}


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet110", 110),
        ("resnet152", 152),
        ("preact-resnet1001", 1001),
        ("stochastic-depth-1202", 1202),
        ("plain-56", 56),
        ("highway-19", 19),
        ("highway-32", 32),
        ("highway-20-8", 20),
        ("fractalnet-20", 21),  # as Table 2 counts it, with the linear layer
        ("wrn-28-10", 26),  # the longest path; its name counts three shortcuts and not the linear layer
        ("nin", 9),
    ],
)
def test_depths(name: str, depth: int) -> None:
    assert named_config(name).depth == depth


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet50-16", (16, 32, 64)),  # a width is named: CIFAR's, not ImageNet's
        ("resnet20-12", (12, 24, 48)),
        ("plain-20-17", (17, 34, 68)),
        ("stochastic-depth-20-8", (8, 16, 32)),
        ("preact-resnet20-18", (72, 144, 288)),
        ("preact-resnet32-8", (8, 16, 32)),
        ("preact-resnet20-8-basic", (8, 16, 32)),
        ("wrn-16-2", (32, 64, 128)),
    ],
)
def test_a_width_is_the_first_stages(name: str, channels: tuple[int, ...]) -> None:
    config = named_config(name)
    assert isinstance(config, ResNetConfig)
    assert (config.stage_channels, config.default_size) == (channels, 32)


def test_units_of_the_preactivation_networks() -> None:
    units = {"110": "basic", "164": "bottleneck", "1001": "bottleneck", "32": "basic", "164-basic": "basic"}
    for name, unit in units.items():
        config = named_config(f"preact-resnet{name}")
        assert isinstance(config, ResNetConfig)
        assert (config.unit, config.pre_activation) == (unit, True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet111", r"depth must be 6n\+2, such as 110 or 116, got 111"),
        ("plain-7", r"depth must be 6n\+2, such as 8 or 14, got 7"),
        ("preact-resnet165", r"depth must be 9n\+2, such as 164 or 173, got 165"),
        ("wrn-27-10", r"depth must be 6n\+4, such as 22 or 28, got 27"),
        ("resnet20-0", r"stage_channels must be .*, got \(0, 0, 0\)"),
        ("wrn-28-0", r"stage_channels must be .*, got \(0, 0, 0\)"),
        ("highway-19-16", r"depth must be 3n\+5, such as 17 or 20, got 19"),
        ("fractalnet-30", r"depth must be 5, 10, 20, 40, .*, got 30"),
        ("fractalnet-4", r"depth must be 5, 10, 20, 40, .*, got 4"),
        ("resnet", r"unknown model 'resnet'; did you mean resnet"),
        ("wide-resnet-28-10", r"unknown model 'wide-resnet-28-10'"),
    ],
)
def test_names_that_no_network_can_have(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        named_config(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_config_survives_json(name: str) -> None:
    config = NETWORKS[name].config
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert FAMILIES[config.family].config is type(config)


def test_every_network_of_every_family_is_listed_once() -> None:
    listed = [name for family in FAMILIES.values() for name in family.networks]
    assert sorted(listed) == sorted(NETWORKS)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_network_is_of_its_familys_config_and_architectures(family: Family[NetworkConfig]) -> None:
    for name, entry in family.networks.items():
        assert type(entry.config) is family.config, name
        assert entry.architecture in family.architectures, name


@pytest.mark.parametrize(
    ("name", "label", "own_recipe"),
    [
        ("densenet-40-12", "DenseNet", ""),
        ("densenet-b-22-8", "DenseNet-B", ""),
        ("densenet-c-22-8", "DenseNet-C", ""),
        ("densenet-bc-22-8", "DenseNet-BC", ""),
        ("densenet264-48", "DenseNet-BC", ""),
        ("nin", "Network in Network", "network-in-network"),
        ("all-cnn", "All-CNN", "all-cnn"),
        ("dsn", "Deeply Supervised Net", "deeply-supervised-net"),
        ("highway-20-8", "Highway Network", "highway"),
        ("fractalnet-20-16", "FractalNet", "fractalnet"),
        ("fractalnet-10-9-drop-path", "FractalNet, drop-path", "fractalnet"),
        ("resnet50", "ResNet", "resnet"),
        ("plain-20-17", "plain", "resnet"),
        ("preact-resnet20-8-basic", "ResNet (pre-activation)", "preact-resnet"),
        ("stochastic-depth-20-8", "Stochastic Depth", "stochastic-depth"),
        ("wrn-16-2", "Wide ResNet", "wide-resnet"),
    ],
)
def test_label_and_own_recipe_are_the_architectures(name: str, label: str, own_recipe: str) -> None:
    architecture = network_entry(name).architecture
    assert (architecture.label, architecture.own_recipe) == (label, own_recipe)


def test_a_family_that_nobody_knows_is_named() -> None:
    with pytest.raises(InputError, match="network family 'vgg' is unknown; known: densenet, resnet"):
        config_from_dict({"family": "vgg"})


@pytest.mark.parametrize("name", ["resnet20", "nin", "highway-19", "fractalnet-20"])
def test_a_broken_config_is_refused_by_the_familys_name(name: str) -> None:
    fields = named_config(name).to_dict()
    with pytest.raises(InputError, match=rf"not a {named_config(name).title}'s config: .*width"):
        config_from_dict({**fields, "width": 3})


@pytest.mark.parametrize("name", ["resnet20", "nin", "highway-19", "fractalnet-20"])
def test_what_only_densenets_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="which has no growth_rate"):
        create_model(name, growth_rate=12)
    with pytest.raises(InputError, match="execution 'fused' is for dense blocks"):
        create_model(name, execution="fused")
    with pytest.raises(InputError, match="spatial_dims must be 2, got 3"):
        create_model(name, spatial_dims=3)
