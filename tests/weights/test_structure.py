import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_weights import RENAMES, SMALL, renamed
from small_networks import small_config
from torch import Tensor

from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import DENSENETS
from densenets.weights.formats.file_modules import NetworkFile
from densenets.weights.formats.pytorch_file import state_dict_file
from densenets.weights.formats.state_dicts import StateDict
from densenets.weights.recognition import densenet_config
from densenets.weights.structure import NoDenseNet, recognize

PATH = Path("theirs.pth")
LARGE = small_config(stem="imagenet")


def meta_weights(config: DenseNetConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return DenseNet(config).state_dict()


def as_file(weights: dict[str, Tensor], path: Path = PATH) -> NetworkFile:
    return state_dict_file(StateDict((), weights), path)


def config_of(weights: dict[str, Tensor], path: Path = PATH) -> DenseNetConfig:
    return densenet_config(recognize(as_file(weights, path)), path)


def shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}


def without_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in their order, under names that say nothing."""
    return {
        f"{random.Random(number).getrandbits(60):x}": value for number, value in enumerate(weights.values())
    }


@pytest.mark.parametrize("name", DENSENETS)
def test_every_network_of_the_zoo_is_known_by_its_weights(name: str):
    config = DENSENETS[name].config
    assert config_of(meta_weights(config)) == config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stem": "cifar"},
        {"stem": "cifar", "spatial_dims": 1},
        {"spatial_dims": 3, "in_channels": 1},
        {"bottleneck": False, "compression": 1.0},
        {"bottleneck": False, "stem": "cifar", "block_layers": (1, 1, 1)},
        {"block_layers": (12,), "compression": 1.0},
        {"block_layers": (3, 1, 2), "compression": 1.0},
        {"block_layers": (1, 2, 1, 2, 1), "num_classes": 1},
        {"bottleneck_width": 2},
        {"bottleneck_width": 1, "stem": "cifar"},
        {"stem": "cifar", "stem_channels": 4, "growth_rate": 4},
        {"num_classes": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("naming", ["names", "no names"])
def test_other_networks_are_known_by_their_weights(changes: dict[str, Any], naming: str):
    config = dataclasses.replace(LARGE, **changes)
    weights = DenseNet(config).state_dict()
    assert config_of(weights if naming == "names" else without_names(weights)) == config


@pytest.mark.parametrize("form", RENAMES)
def test_every_tensor_comes_to_its_place_without_its_name(form: str):
    model = DenseNet(SMALL)
    theirs = renamed(model.state_dict(), form)
    named, nameless = recognize(as_file(theirs)), recognize(as_file(without_names(theirs)))
    for a, b in ((named.stem, nameless.stem), (named.last_norm, nameless.last_norm)):
        assert all(a.tensors[role] is b.tensors[role] for role in a.tensors)
    for block, other in zip(named.blocks, nameless.blocks, strict=True):
        for layer, other_layer in zip(block, other, strict=True):
            for unit, other_unit in zip(layer, other_layer, strict=True):
                assert unit.convolution.weight is other_unit.convolution.weight
                assert unit.norm is not None
                assert other_unit.norm is not None
                assert unit.norm.tensors["running_var"] is other_unit.norm.tensors["running_var"]


def test_a_file_that_is_sorted_by_names_is_read_by_its_numbers():
    config = dataclasses.replace(LARGE, block_layers=(11, 2))
    weights = DenseNet(config).state_dict()
    in_order = dict(sorted(weights.items()))  # denselayer10 before denselayer2, norm0 behind the blocks
    for suffix in (".pth", ".safetensors"):
        found = recognize(as_file(in_order, PATH.with_suffix(suffix)))
        assert found.stem_norm is not None
        assert found.stem_norm.name == "features.norm0"
        assert found.last_norm.name == "features.norm5"
        names = [unit.norm.name for layer in found.blocks[0] for unit in layer if unit.norm]
        assert names[-2:] == [
            "features.denseblock1.denselayer11.norm1",
            "features.denseblock1.denselayer11.norm2",
        ]
        assert [unit.norm.name for unit in found.transitions if unit.norm] == ["features.transition1.norm"]


def test_convolutions_may_be_declared_before_their_norms():
    def by_kind(key: str) -> tuple[str, bool]:
        module = key.rpartition(".")[0]
        return module.rpartition(".")[0], "norm" in module.rpartition(".")[2]

    weights = DenseNet(LARGE).state_dict()
    groups: dict[str, list[str]] = {}
    for key in weights:
        groups.setdefault(by_kind(key)[0], []).append(key)
    turned = [key for keys in groups.values() for key in sorted(keys, key=lambda key: by_kind(key)[1])]
    assert config_of({key: weights[key] for key in turned}) == LARGE


def test_transitions_may_stand_behind_all_blocks():
    weights = DenseNet(dataclasses.replace(LARGE, block_layers=(2, 3, 1))).state_dict()
    moved = sorted(weights, key=lambda key: ("transition" in key, "norm5" in key, "classifier" in key))
    found = recognize(as_file({key: weights[key] for key in moved}))
    assert [unit.convolution.name for unit in found.transitions] == [
        "features.transition1.conv",
        "features.transition2.conv",
    ]


@pytest.mark.parametrize(
    ("compression", "block_layers", "growth_rate", "stem_channels"),
    [
        (0.5, (1, 1, 1), 3, 2),  # odd numbers of channels
        (0.3, (2, 3, 2), 5, 7),
        (0.61, (3, 1, 4, 2), 6, 16),
        (0.98, (7, 9, 3), 19, 15),
        (0.13, (8, 2, 5, 9, 5), 8, 43),
        (0.473, (6, 10, 4, 5), 12, 25),
        (0.432, (7, 11, 12, 1, 3), 29, 9),
    ],
)
def test_inferred_compression_rebuilds_the_same_shapes(
    compression: float, block_layers: tuple[int, ...], growth_rate: int, stem_channels: int
):
    config = dataclasses.replace(
        LARGE,
        compression=compression,
        block_layers=block_layers,
        growth_rate=growth_rate,
        stem_channels=stem_channels,
    )
    weights = meta_weights(config)
    assert shapes(meta_weights(config_of(weights))) == shapes(weights)


# Heads


@pytest.mark.parametrize(
    "head",
    [
        {"classifier.0.weight": (7, 20)},
        {"fc.weight": (7, 20, 1, 1), "fc.bias": (7,)},
        {"last_linear.weight": (7, 20), "last_linear.bias": (7,)},
    ],
    ids=["sequential", "convolution", "another name"],
)
def test_a_head_of_one_layer_is_the_classifier(head: dict[str, tuple[int, ...]]):
    weights = DenseNet(dataclasses.replace(LARGE, block_layers=(2, 3), num_classes=0)).state_dict()
    features = weights["features.norm5.weight"].shape[0]
    assert features == 20
    found = recognize(as_file(weights | {key: torch.zeros(shape) for key, shape in head.items()}))
    assert found.classifier is not None
    assert found.classifier.weight.shape[0] == 7


def test_a_head_of_several_layers_is_known_as_a_whole():
    weights = DenseNet(dataclasses.replace(LARGE, num_classes=0)).state_dict()
    features = weights["features.norm5.weight"].shape[0]
    head = {
        "head.0.weight": torch.zeros(50, features),
        **{f"head.1.{role}": torch.ones(50) for role in ("weight", "bias", "running_mean", "running_var")},
        "head.3.weight": torch.zeros(7, 50),
        "head.3.bias": torch.zeros(7),
    }
    for state in (weights | head, head | weights):
        found = recognize(as_file(state))
        assert found.classifier is None
        assert [module.name for module in found.head] == ["head.0", "head.1", "head.3"]


def test_a_heads_norm_of_the_features_is_not_the_last_norm():
    weights = DenseNet(dataclasses.replace(LARGE, num_classes=0)).state_dict()
    features = weights["features.norm5.weight"].shape[0]
    head = {
        f"head.0.{role}": torch.ones(features) for role in ("weight", "bias", "running_mean", "running_var")
    }
    head["head.1.weight"] = torch.zeros(7, features)
    for state in (weights | head, head | weights):
        for names in (dict, without_names):
            found = recognize(as_file(names(state)))
            assert found.last_norm.tensors["weight"] is weights["features.norm5.weight"]
            assert [module.kind for module in found.head] == ["norm", "linear"]


# What is no DenseNet


@pytest.mark.parametrize("naming", ["names", "no names"])
def test_any_layer_that_is_missing_is_noticed(naming: str):
    weights = DenseNet(dataclasses.replace(LARGE, block_layers=(2, 1, 2))).state_dict()
    modules = dict.fromkeys(key.rpartition(".")[0] for key in weights)
    for missing in modules:
        kept = {key: value for key, value in weights.items() if key.rpartition(".")[0] != missing}
        if missing == "classifier":
            assert config_of(kept).num_classes == 0
            continue
        with pytest.raises(NoDenseNet, match=r"theirs\.pth holds no whole DenseNet: "):
            config_of(kept if naming == "names" else without_names(kept))


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("block1.layer.1.conv2.weight", (4, 16, 1, 1), "is 4x16x1x1, where 4 maps by 3x3 pixels would fit"),
        ("block1.layer.1.conv2.weight", (5, 16, 3, 3), "is 5x16x3x3, where 4 maps by 3x3 pixels would fit"),
        (
            "block2.layer.0.conv1.weight",
            (16, 9, 1, 1),
            "reads 9 channels, where 16 come from the layers before it",
        ),
        ("block3.layer.0.conv1.weight", (15, 6, 1, 1), "is 15x6x1x1, where 16 maps by 1x1 pixels would fit"),
        ("conv1.weight", (8, 3, 5, 5), "is no stem of 3 or 7 pixels a side"),
        ("conv1.weight", (9, 3, 3, 3), "block1.layer.0.conv1.weight reads 8 channels, where 9 come"),
        ("trans2.conv1.weight", (7, 12, 1, 1), "block3.layer.0.conv1.weight reads 6 channels, where 12 come"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(key: str, shape: tuple[int, ...], message: str):
    theirs = renamed(DenseNet(SMALL).state_dict(), "dice")
    theirs[key] = torch.zeros(shape)
    with pytest.raises(NoDenseNet) as error:
        config_of(theirs)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_norm_that_does_not_fit_is_named():
    theirs = renamed(DenseNet(SMALL).state_dict(), "dice")
    for key in theirs:
        if key.startswith("block2.layer.0.bn1.") and theirs[key].dim():
            theirs[key] = torch.ones(7)
    with pytest.raises(
        NoDenseNet,
        match=r"batch norm block2\.layer\.0\.bn1\.weight of 7 channels fits no convolution, and a batch",
    ):
        config_of(theirs)


def test_compressions_that_differ_are_refused():
    halved = DenseNet(dataclasses.replace(LARGE, block_layers=(1, 1, 1), compression=0.5)).state_dict()
    channels = halved["features.transition1.conv.weight"].shape[0]
    whole = DenseNet(
        dataclasses.replace(LARGE, block_layers=(1, 1), compression=1.0, stem_channels=channels)
    ).state_dict()  # as if the second transition did not compress
    for block in (1, 2):
        old, new = f"denseblock{block}.", f"denseblock{block + 1}."
        halved |= {key.replace(old, new): value for key, value in whole.items() if old in key}
    halved |= {
        key.replace("transition1", "transition2"): value
        for key, value in whole.items()
        if "transition" in key
    }
    halved |= {key: value for key, value in whole.items() if "norm5" in key or "classifier" in key}
    with pytest.raises(
        NoDenseNet, match=r"transition2\.conv\.weight makes 10 of 10 channels; one compression"
    ):
        config_of(halved)


def test_the_norm_behind_a_stem_belongs_to_a_large_one():
    weights = DenseNet(LARGE).state_dict()
    weights["features.conv0.weight"] = torch.zeros(weights["features.conv0.weight"].shape[0], 3, 3, 3)
    with pytest.raises(NoDenseNet, match="has a batch norm behind it, as no stem of 3 pixels here has"):
        config_of(weights)
    weights = {k: v for k, v in DenseNet(LARGE).state_dict().items() if "norm0" not in k}
    with pytest.raises(NoDenseNet, match="has no batch norm behind it, as no stem of 7 pixels here has"):
        config_of(weights)
