import dataclasses
import itertools
import json
from typing import Any

import pytest
import torch
from paper_counts import CIFAR_PARAMETERS, IMAGENET_PARAMETERS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.densenet_rows import block_table
from densenets.models.layer_table import layer_table
from densenets.models.registry import NETWORKS, named_config

# For the classes of the set that each network was made for.
PARAMETERS = {name: ten for name, (ten, _) in CIFAR_PARAMETERS.items()} | IMAGENET_PARAMETERS

# Networks that differ in every fact, with images whose sides are odd and unlike.
SAMPLES: dict[str, tuple[DenseNetConfig, tuple[int, ...]]] = {
    "cifar": (named_config("densenet-22-8"), (32, 32)),
    "cifar, no square": (
        dataclasses.replace(named_config("densenet-bc-22-8"), compression=0.3, num_classes=7),
        (21, 45),
    ),
    "imagenet": (named_config("densenet121"), (75, 61)),
    "signal": (dataclasses.replace(named_config("densenet-b-22-8"), spatial_dims=1, in_channels=2), (77,)),
    "volume": (
        dataclasses.replace(
            named_config("densenet121"), spatial_dims=3, block_layers=(2, 3), growth_rate=5, in_channels=1
        ),
        (19, 16, 23),
    ),
    "one block": (dataclasses.replace(named_config("densenet-c-22-8"), block_layers=(4,)), (9, 9)),
}


def meta_model(config: DenseNetConfig) -> DenseNet:
    with torch.device("meta"):
        return DenseNet(config, "reference")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_worked_example_of_the_paper():
    table = block_table(1, 5, 4, (8, 8), bottleneck=False)
    *layers, transition = table.layers
    assert [layer.in_channels for layer in layers] == [1, 5, 9, 13, 17]
    assert [layer.new_channels for layer in layers] == [4] * 5
    assert transition.in_channels == 21
    assert table.total("connections") == 15


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_papers(name: str):
    table = layer_table(name, NETWORKS[name].config, (64, 64))
    assert table.total("parameters") == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_100_classes_are_the_modules(name: str):
    config = dataclasses.replace(named_config(name), num_classes=100)
    assert layer_table(name, config, (64, 64)).total("parameters") == count(meta_model(config))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_is_a_module_with_its_parameters_and_maps(name: str):
    config, sides = SAMPLES[name]
    table = layer_table(name, config, sides)
    model = meta_model(config).eval()
    stem_modules = [m for key, m in model.features.named_children() if key in ("conv0", "norm0")]
    stem_end = model.features.get_submodule("pool0" if config.stem == "imagenet" else "conv0")
    shapes: dict[str, torch.Size] = {}
    for row in table.layers:
        if row.name == "stem":
            module = stem_end
            assert row.parameters == sum(count(m) for m in stem_modules)
        else:
            module = (model if row.name == "classifier" else model.features).get_submodule(row.name)
            assert row.parameters == count(module), row.name
        module.register_forward_hook(
            lambda module, inputs, output, name=row.name: shapes.update({name: output.shape[1:]})
        )
        if row.name not in ("stem", "classifier"):
            norm = next(m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
            assert row.in_channels == norm.num_features, row.name
    model(torch.zeros(1, config.in_channels, *sides, device="meta"))
    for row in table.layers:
        expected = (row.new_channels,) if row.name == "classifier" else (row.new_channels, *row.size)
        assert tuple(shapes[row.name]) == expected, row.name


@pytest.mark.parametrize("name", SAMPLES)
def test_rows_hand_on_what_the_next_reads(name: str):
    config, sides = SAMPLES[name]
    rows = layer_table(name, config, sides).layers
    assert rows[0].in_channels == config.in_channels
    for row, following in itertools.pairwise(rows):
        assert row.out_channels == following.in_channels, following.name
    assert rows[-1].out_channels == config.num_classes


@pytest.mark.parametrize("name", SAMPLES)
def test_multiply_adds_are_half_of_pytorchs_flops(name: str):
    config, sides = SAMPLES[name]
    model = meta_model(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, config.in_channels, *sides, device="meta"))
    assert 2 * layer_table(name, config, sides).total("multiply_adds") == counter.get_total_flops()


def test_multiply_adds_of_densenet121_at_224_pixels():
    total = layer_table("densenet121", named_config("densenet121"), (224, 224)).total("multiply_adds")
    assert round(total / 1e9, 2) == 2.83


def test_connections_are_those_of_every_block():
    total = layer_table("densenet121", named_config("densenet121"), (64, 64)).total("connections")
    assert total == 6 * 7 // 2 + 12 * 13 // 2 + 24 * 25 // 2 + 16 * 17 // 2


def stored(layers: int, execution: str, bottleneck: bool) -> int:
    """Bytes that the layers of a block store, the transition behind it left out."""
    rows = block_table(24, layers, 12, (8, 8), bottleneck=bottleneck).layers[:-1]
    return sum(getattr(row, f"stored_{execution}") for row in rows)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_stored_bytes_grow_with_the_square_of_depth_and_linearly_when_recomputed(bottleneck: bool):
    def second_differences(execution: str) -> set[int]:
        totals = [stored(layers, execution, bottleneck) for layers in (6, 12, 18, 24)]
        first = [b - a for a, b in itertools.pairwise(totals)]
        return {b - a for a, b in itertools.pairwise(first)}

    # 6 more layers read 6 * 12 more channels each, and two maps of what they read are stored in float32.
    assert second_differences("reference") == {6 * (6 * 12) * 2 * 4 * 8 * 8}
    assert second_differences("recompute") == {0}


@pytest.mark.parametrize("layers", [6, 12, 24])
def test_stored_bytes_of_each_layer_grow_evenly_or_not_at_all(layers: int):
    rows = block_table(24, layers, 12, (8, 8), bottleneck=True).layers[:-1]
    reference = [row.stored_reference for row in rows]
    assert {b - a for a, b in itertools.pairwise(reference)} == {12 * 2 * 4 * 8 * 8}
    # What the last layer adds is read by no other layer of the block, the rest are all alike.
    assert {row.stored_recompute for row in rows[:-1]} == {(12 + 2 * 48) * 4 * 8 * 8}


@pytest.mark.parametrize("name", SAMPLES)
def test_dict_holds_the_rows_and_their_sums(name: str):
    config, sides = SAMPLES[name]
    table = layer_table(name, config, sides)
    content: dict[str, Any] = json.loads(json.dumps(table.to_dict()))
    assert content["name"] == name
    assert content["input"] == [config.in_channels, *sides]
    for quantity, total in content["totals"].items():
        assert total == sum(row[quantity] for row in content["layers"]) == table.total(quantity)


def test_too_small_an_image_has_no_table():
    with pytest.raises(InputError, match="input 3x28x28 is too small"):
        layer_table("densenet121", named_config("densenet121"), (28, 28))


@pytest.mark.parametrize("numbers", [(0, 5, 4), (1, 0, 4), (1, 5, 0)])
def test_a_block_out_of_range_has_no_table(numbers: tuple[int, int, int]):
    with pytest.raises(InputError, match="must be at least 1"):
        block_table(*numbers, (8, 8), bottleneck=False)
