import dataclasses
import json
from typing import Any

import pytest

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig


def config(**changes: Any) -> DenseNetConfig:
    fields: dict[str, Any] = {
        "block_layers": (2, 3),
        "growth_rate": 4,
        "bottleneck": False,
        "compression": 1.0,
        "stem": "cifar",
        "stem_channels": 8,
    }
    return DenseNetConfig(**{**fields, **changes})


def test_worked_example_of_the_paper():
    (block,) = config(block_layers=(5,), stem_channels=1, in_channels=1).blocks()
    assert block.layer_in_channels == [1, 5, 9, 13, 17]
    assert block.out_channels == 21
    assert block.connections == 15


def test_channels_of_densenet121():
    blocks = config(
        block_layers=(6, 12, 24, 16),
        growth_rate=32,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        stem_channels=64,
    ).blocks()
    assert [block.in_channels for block in blocks] == [64, 128, 256, 512]
    assert [block.out_channels for block in blocks] == [256, 512, 1024, 1024]
    assert [block.transition_out_channels for block in blocks] == [128, 256, 512, 1024]
    assert [block.connections for block in blocks] == [21, 78, 300, 136]


def test_transition_hands_on_the_floor_of_a_share():
    # 8 + 2 * 4 = 16 channels, of which 0.45 are 7.2; then 7 + 3 * 4, and no transition behind the last.
    assert [block.transition_out_channels for block in config(compression=0.45).blocks()] == [7, 19]
    assert config(compression=0.45).num_features == 19


def test_bottleneck_makes_four_times_the_growth_rate():
    assert config(growth_rate=12, bottleneck=True).bottleneck_channels == 48
    assert config(growth_rate=12, bottleneck=True, bottleneck_width=2).bottleneck_channels == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"growth_rate": 0}, "growth_rate must be at least 1, got 0"),
        ({"stem_channels": 0}, "stem_channels must be at least 1, got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, got -1"),
        ({"in_channels": -1}, "in_channels must be at least 1, got -1"),
        ({"compression": 0}, r"compression must be a share in \(0, 1\].*, got 0"),
        ({"compression": 1.5}, r"compression must be a share in \(0, 1\].*, got 1.5"),
        ({"compression": float("nan")}, r"compression must be a share in \(0, 1\].*, got nan"),
        ({"dropout": 1}, r"dropout must be a probability in \[0, 1\), got 1"),
        ({"dropout": -0.1}, r"dropout must be a probability in \[0, 1\), got -0.1"),
        ({"block_layers": ()}, r"block_layers must be .*, got \(\)"),
        ({"block_layers": (3, 0)}, r"block_layers must be at least 1 in every block, got \(3, 0\)"),
        ({"spatial_dims": 4}, "spatial_dims must be 1, 2 or 3, got 4"),
        ({"spatial_dims": 0}, "spatial_dims must be 1, 2 or 3, got 0"),
        ({"stem": "resnet"}, "stem 'resnet' is unknown; known: cifar, imagenet"),
        ({"growth_rate": 2**21}, "growth_rate must be at most 1048576, got 2097152"),
        ({"num_classes": 10**8}, "num_classes must be at most .*, got 100000000"),
        ({"bottleneck_width": 0}, "bottleneck_width must be at least 1, got 0"),
        ({"bottleneck_width": 2000}, "bottleneck_width must be at most 1024, got 2000"),
        ({"norm_epsilon": 0}, "norm_epsilon must be above 0 and below 1, got 0"),
        ({"norm_epsilon": float("nan")}, "norm_epsilon must be above 0 and below 1, got nan"),
        ({"block_layers": (10**12, 1)}, "depth must be at most 10000, got [0-9]+"),
        ({"block_layers": (1,) * 17}, "block_layers must have at most 16 numbers, got 17"),
        ({"compression": 0.05}, r"leaves no channel after block 1 \(16 channels\)"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_config_cannot_be_changed_behind_its_checks():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().growth_rate = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("stem", "blocks", "smallest"),
    # Every transition halves and drops the odd pixel; the large stem halves twice and rounds up.
    [
        ("cifar", 1, 1),
        ("cifar", 2, 2),
        ("cifar", 3, 4),
        ("cifar", 4, 8),
        ("imagenet", 1, 1),
        ("imagenet", 2, 5),
        ("imagenet", 3, 13),
        ("imagenet", 4, 29),
    ],
)
def test_smallest_size(stem: str, blocks: int, smallest: int):
    assert config(stem=stem, block_layers=(1,) * blocks).smallest_size == smallest


@pytest.mark.parametrize("shape", [(3, 2, 2), (7, 3, 2, 2), (1, 3, 99, 2)])
def test_images_and_batches_that_fit_pass_the_check(shape: tuple[int, ...]):
    config().check_input(shape)


def test_input_of_other_channels_is_refused():
    with pytest.raises(InputError, match="input 1x28x28 has 1 channels; this network reads 3"):
        config().check_input((64, 1, 28, 28))


def test_too_small_an_input_is_refused_on_any_side():
    with pytest.raises(InputError, match=r"input 3x32x1 is too small .* at least 2x2 pixels"):
        config().check_input((5, 3, 32, 1))


@pytest.mark.parametrize(
    "original", [config(), config(stem="imagenet", spatial_dims=3, dropout=0.2, compression=0.3)]
)
def test_dict_round_trip_through_json(original: DenseNetConfig):
    assert DenseNetConfig.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize("missing", ["block_layers", "growth_rate", "stem"])
def test_dict_without_a_field_is_refused_by_the_fields_name(missing: str):
    fields = config().to_dict()
    del fields[missing]
    with pytest.raises(InputError, match=f"not a DenseNet's config: .*{missing}"):
        DenseNetConfig.from_dict(fields)


def test_dict_with_an_unknown_field_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"not a DenseNet's config: .*width"):
        DenseNetConfig.from_dict({**config().to_dict(), "width": 3})


def test_dict_with_a_value_out_of_range_is_refused():
    with pytest.raises(InputError, match="growth_rate must be at least 1, got 0"):
        DenseNetConfig.from_dict({**config().to_dict(), "growth_rate": 0})
