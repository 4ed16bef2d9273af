"""Highway Networks: what the gates do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from densenets.errors import InputError
from densenets.models.baselines.highway import HighwayLayer, HighwayNetwork
from densenets.models.baselines.highway_config import HighwayConfig
from densenets.models.registry import named_config
from densenets.weights.pretrained import create_model


def layer(gate_bias: float, gate_weight: float = 0.0) -> HighwayLayer:
    highway_layer = HighwayLayer(3).double()
    nn.init.constant_(highway_layer.gate.bias, gate_bias)  # type: ignore[arg-type]
    nn.init.constant_(highway_layer.gate.weight, gate_weight)
    return highway_layer


def maps() -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_layer_is_the_papers_equation() -> None:
    highway_layer, x = layer(-0.5, 0.1), maps()
    share = highway_layer.gate(x).sigmoid()
    torch.testing.assert_close(highway_layer(x), highway_layer.transform(x).relu() * share + x * (1 - share))


def test_closed_gates_carry_and_open_gates_transform() -> None:
    x = maps()
    torch.testing.assert_close(layer(-50)(x), x)
    opened = layer(50)
    torch.testing.assert_close(opened(x), opened.transform(x).relu())


@pytest.mark.parametrize("name", ["highway-19", "highway-32"])
def test_gates_begin_mostly_closed(name: str) -> None:
    model = create_model(name, generator=torch.Generator().manual_seed(0)).eval()
    layers = [module for module in model.modules() if isinstance(module, HighwayLayer)]
    shares: list[float] = []
    for module in layers:
        assert module.gate.bias is not None
        assert module.transform.bias is not None
        assert set(module.gate.bias.tolist()) == {-2.0}
        assert not module.transform.bias.any()
        module.sigmoid.register_forward_hook(lambda _, __, share: shares.append(float(share.mean())))
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 32))
    # sigmoid(-2) is 0.12: a fresh layer carries nearly all of what it reads.
    assert len(shares) == len(layers)
    assert max(shares) < 0.3


def test_a_gates_bias_is_the_configs() -> None:
    config = HighwayConfig(stage_layers=(1,), stage_channels=(4,), gate_bias=-4.0)
    (highway_layer,) = (m for m in HighwayNetwork(config).modules() if isinstance(m, HighwayLayer))
    assert highway_layer.gate.bias is not None
    assert set(highway_layer.gate.bias.tolist()) == {-4.0}


def test_initial_weights_are_caffes_xavier() -> None:
    weight = create_model("highway-19").get_submodule("features.highway3_1.transform").weight
    assert isinstance(weight, torch.Tensor)
    bound = (3 / (9 * 128)) ** 0.5
    assert float(weight.detach().abs().max()) <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.02)


def test_stages_halve_and_the_last_maps_are_averaged() -> None:
    model = create_model("highway-19").eval()
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 100, 8, 8)
    assert model(torch.zeros(2, 3, 4, 5)).shape == (2, 10)
    with pytest.raises(InputError, match="at least 4x4 pixels"):
        model(torch.zeros(2, 3, 3, 5))


def test_dropout_is_on_the_image_behind_poolings_and_in_front_of_the_classifier() -> None:
    model = create_model("highway-19")
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    assert places == ["features.dropout0", "features.dropout1", "features.dropout2", "dropout"]
    assert named_config("highway-19").with_dropout(0.5) == HighwayConfig(
        stage_layers=(4, 5, 5), stage_channels=(32, 80, 128), dropout=0.5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_layers": ()}, r"stage_layers must be .*, got \(\)"),
        ({"stage_layers": (1, -1)}, r"stage_layers must be at least 0 in every stage, got \(1, -1\)"),
        ({"stage_channels": (4,)}, r"stage_channels must be 2 numbers of at least 1, got \(4,\)"),
        ({"stage_channels": (4, 0)}, r"must be 2 numbers of at least 1, got \(4, 0\)"),
        ({"head_channels": 0}, "head_channels must be .*, got 0"),
        ({"gate_bias": float("inf")}, "gate_bias must be .*, got inf"),
        ({"stage_layers": (1, 10**9)}, "depth must be at most 10000, got [0-9]+"),
        ({"input_dropout": 1}, "input_dropout must be .*, got 1"),
        ({"dropout": -1}, "dropout must be .*, got -1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HighwayConfig(**{"stage_layers": (1, 1), "stage_channels": (4, 8), **changes})
