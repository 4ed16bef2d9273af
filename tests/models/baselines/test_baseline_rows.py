"""Rows of the networks that DenseNet is compared with: the modules themselves are the oracle."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from quick_tests import every
from torch.utils.flop_counter import FlopCounterMode

from densenets.errors import InputError
from densenets.models.layer_table import layer_table
from densenets.models.network import Network
from densenets.models.registry import BASELINES, named_config
from densenets.weights.pretrained import create_model

# One of every architecture, on images whose sides are odd and unlike where that can be.
SAMPLES: dict[str, tuple[int, int]] = {
    "nin": (21, 18),
    "all-cnn": (33, 20),
    "dsn": (32, 32),
    "highway-19": (21, 35),
    "highway-14-6": (9, 8),
    "fractalnet-20-4": (37, 64),
    "resnet20": (31, 17),
    "plain-20": (31, 17),
    "stochastic-depth-20": (15, 32),
    "wrn-16-2": (13, 32),
    "preact-resnet20": (15, 33),
    "preact-resnet32": (15, 33),
    "resnet18": (75, 61),
    "resnet50": (75, 64),
}


def meta_model(name: str) -> Network:
    with torch.device("meta"):
        return create_model(name).eval()


@every("name", BASELINES, quick=lambda name: BASELINES[name].config.depth < 200)
def test_parameters_are_the_modules_without_companions(name: str) -> None:
    config = BASELINES[name].config
    table = layer_table(name, config, (config.default_size,) * 2)
    counted = {k: p.numel() for k, p in meta_model(name).named_parameters() if not k.startswith("companions")}
    assert table.total("parameters") == sum(counted.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_multiply_adds_are_half_of_pytorchs_flops(name: str) -> None:
    sides = SAMPLES[name]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta_model(name)(torch.zeros(1, 3, *sides, device="meta"))
    total = layer_table(name, named_config(name), sides).total("multiply_adds")
    assert 2 * total == counter.get_total_flops()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_is_a_module_with_its_parameters_and_maps(name: str) -> None:
    sides = SAMPLES[name]
    model = meta_model(name)
    modules = dict(model.named_modules())
    shapes: dict[str, torch.Size] = {}
    rows = layer_table(name, named_config(name), sides).layers
    for row in rows:
        if row.name == "stem":
            continue
        assert row.parameters == sum(p.numel() for p in modules[row.name].parameters()), row.name
        # A convolution's pooling belongs to its row; a highway stage's stands in front of the next stage.
        pool = row.name.replace("conv", "pool")
        ends_in = pool if pool in modules and "highway" not in name else row.name
        modules[ends_in].register_forward_hook(
            lambda _, __, output, key=row.name: shapes.update({key: output.shape[1:]})  # type: ignore[misc]
        )
    model(torch.zeros(1, 3, *sides, device="meta"))
    for row in rows[1:]:
        maps = tuple(shapes[row.name])
        assert maps == ((row.new_channels, *row.size) if len(maps) == 3 else (row.new_channels,)), row.name
    for row, following in itertools.pairwise(rows):
        assert row.out_channels == following.in_channels, following.name


def test_rows_are_json_and_say_nothing_of_stored_bytes() -> None:
    table = layer_table("resnet20", named_config("resnet20"), (32, 32))
    content = json.loads(json.dumps(table.to_dict()))
    assert set(content["totals"]) == {"connections", "parameters", "multiply_adds"}
    assert content["totals"]["parameters"] == 269_722
    assert "stored_reference" not in content["layers"][0]


def test_multiply_adds_that_others_publish() -> None:
    # torchvision's documentation gives ResNet-50 4.09 and ResNet-152 11.51 billion of them.
    for name, published in (("resnet50", 4.09), ("resnet152", 11.51)):
        total = layer_table(name, named_config(name), (224, 224)).total("multiply_adds")
        assert round(total / 1e9, 2) == published


def test_too_small_an_image_has_no_table() -> None:
    with pytest.raises(InputError, match=r"input 3x31x40 is too small .* at least 32x32"):
        layer_table("fractalnet-20", named_config("fractalnet-20"), (31, 40))
