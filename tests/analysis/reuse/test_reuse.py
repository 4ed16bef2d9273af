"""Feature reuse: the heat map's numbers by hand, on networks of every kind."""

from __future__ import annotations

import json
import math

import pytest
import torch
from small_networks import small_config
from torch import nn

from densenets.analysis.reuse.compute import BlockReuse, FeatureReuse, feature_reuse
from densenets.analysis.reuse.reuse_config import ReuseConfig
from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.pretrained import create_model


def hand_network() -> DenseNet:
    """Two blocks without bottleneck, 2 layers and 1, k = 2, a stem of 1 channel, 3 classes."""
    config = DenseNetConfig(
        block_layers=(2, 1),
        growth_rate=2,
        bottleneck=False,
        compression=0.6,
        stem="cifar",
        stem_channels=1,
        num_classes=3,
    )
    return DenseNet(config, "reference")


def set_by_map(weight: torch.Tensor, values: list[float]) -> None:
    """Give all weights that read map c the value values[c], every other of them negative."""
    with torch.no_grad():
        for number, value in enumerate(values):
            weight[:, number] = value
            weight[::2, number] *= -1


@pytest.fixture
def by_hand() -> DenseNet:
    network = hand_network()
    features = network.features
    # Block 1: layer 1 reads the input, layer 2 the input and 2 maps of layer 1.
    set_by_map(features.denseblock1.denselayer1.conv1.weight, [0.5])
    set_by_map(features.denseblock1.denselayer2.conv1.weight, [1.0, 2.0, 4.0])
    # The transition reads 5 maps and makes floor(0.6 * 5) = 3.
    set_by_map(features.transition1.conv.weight, [1.0, 2.0, 4.0, 6.0, 8.0])
    set_by_map(features.denseblock2.denselayer1.conv1.weight, [1.0, 2.0, 3.0])
    set_by_map(network.classifier.weight, [1.0, 2.0, 3.0, 10.0, 20.0])
    return network


def test_means_are_those_by_hand(by_hand: DenseNet) -> None:
    reuse = feature_reuse(by_hand)
    first, second = reuse.blocks
    assert reuse.through == "3x3"
    assert first.sources == ("input", "1", "2")
    assert first.source_maps == (1, 2, 2)
    assert first.targets == ("1", "2", "transition 1")
    assert first.values == ((0.5, 1.0, 1.0), (None, 3.0, 3.0), (None, None, 7.0))
    assert second.targets == ("1", "classifier")
    assert second.source_maps == (3, 2)
    assert second.values == ((2.0, 2.0), (None, 15.0))


def test_the_other_normalizations_are_those_by_hand(by_hand: DenseNet) -> None:
    first, second = feature_reuse(by_hand, ReuseConfig(normalization="l1")).blocks
    # A layer gives each map 2 channels of 3x3 weights, the transition 3 weights, the classifier 3.
    assert first.values == ((9.0, 18.0, 3.0), (None, 54.0, 9.0), (None, None, 21.0))
    assert second.values == ((36.0, 6.0), (None, 45.0))
    first, second = feature_reuse(by_hand, ReuseConfig(normalization="share")).blocks
    assert first.of_target(0) == [1.0]
    assert first.of_target(1) == pytest.approx([1 / 7, 6 / 7])
    assert first.of_target(2) == pytest.approx([1 / 21, 6 / 21, 14 / 21])
    assert second.of_target(1) == pytest.approx([6 / 36, 30 / 36])
    first, second = feature_reuse(by_hand, ReuseConfig(normalization="largest")).blocks
    assert first.of_target(2) == pytest.approx([1 / 7, 3 / 7, 1.0])
    assert second.of_target(0) == [1.0]


def test_the_scale_of_batch_normalisation_multiplies_the_weights(by_hand: DenseNet) -> None:
    with torch.no_grad():
        by_hand.features.denseblock1.denselayer2.norm1.weight.copy_(torch.tensor([2.0, -3.0, 0.0]))
        by_hand.features.norm5.weight.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5]))
    first, second = feature_reuse(by_hand, ReuseConfig(with_scale=True)).blocks
    # (2 * 1) of the input; (3 * 2, 0 * 4) of layer 1.
    assert first.of_target(1) == [2.0, 3.0]
    assert second.of_target(1) == [1.0, 10.0]
    assert "gamma" in feature_reuse(by_hand, ReuseConfig(with_scale=True)).meaning
    assert "gamma" not in feature_reuse(by_hand).meaning


def test_the_summary_averages_what_it_says(by_hand: DenseNet) -> None:
    first, second = feature_reuse(by_hand).to_dict()["summary"]
    assert first["input"] == pytest.approx((0.5 + 1.0) / 2)
    assert first["other"] == first["next"] == 3.0
    assert first["earlier"] is None
    assert first["reader"] == [1.0, 3.0, 7.0]
    assert second["other"] is None


def test_earlier_layers_are_those_before_the_one_directly_before() -> None:
    values = ((1.0, 1.0, 1.0, 9.0), (None, 2.0, 3.0, 9.0), (None, None, 4.0, 9.0), (None, None, None, 9.0))
    block = BlockReuse(
        number=1,
        sources=("input", "1", "2", "3"),
        source_maps=(1, 1, 1, 1),
        targets=("1", "2", "3", "classifier"),
        values=values,
    )
    reuse = FeatureReuse(normalization="mean", with_scale=False, through="3x3", blocks=(block,))
    (summary,) = reuse.to_dict()["summary"]
    # Layer 3 reads layer 2 directly before it, and layer 1 two before.
    assert summary["next"] == 3.0
    assert summary["earlier"] == 3.0
    assert summary["other"] == 3.0


@pytest.mark.parametrize("changes", [{}, {"bottleneck": False}, {"stem": "imagenet"}, {"spatial_dims": 3}])
@pytest.mark.parametrize("normalization", ["mean", "l1", "share", "largest"])
def test_values_are_those_of_slices_of_the_weights(changes: dict[str, object], normalization: str) -> None:
    """An independent way: concatenation says which channels are whose."""
    config = small_config(block_layers=(3, 2), **changes)
    model = DenseNet(config, "reference")
    reuse = feature_reuse(model, ReuseConfig(normalization=normalization))  # type: ignore[arg-type]
    assert reuse.through == ("1x1 of the bottleneck" if config.bottleneck else "3x3")
    for block, channels in zip(reuse.blocks, config.blocks(), strict=True):
        whose = [0] * channels.in_channels
        for target in range(channels.layers + 1):
            weight = weights_of(model, block.number, target)
            assert weight.shape[1] == len(whose)
            totals, means, l1 = [], [], []
            for source in range(target + 1):
                part = weight[:, [place for place, s in enumerate(whose) if s == source]].double().abs()
                totals.append(float(part.sum()))
                means.append(float(part.mean()))
                l1.append(float(part.sum()) / part.shape[1])
            expected = {
                "mean": means,
                "l1": l1,
                "share": [total / sum(totals) for total in totals],
                "largest": [mean / max(means) for mean in means],
            }[normalization]
            assert block.of_target(target) == pytest.approx(expected, rel=1e-12)
            whose += [target + 1] * channels.growth_rate
        assert block.values[-1].count(None) == channels.layers


def weights_of(model: DenseNet, block: int, target: int) -> torch.Tensor:
    layers = model.features.get_submodule(f"denseblock{block}")
    if target < len(layers):
        return list(layers.values())[target].conv1.weight.detach()
    if block < len(model.config.block_layers):
        return model.features.get_submodule(f"transition{block}").conv.weight.detach()
    return model.classifier.weight.detach()


def test_the_imagenet_networks_have_a_map_a_block() -> None:
    model = create_model("densenet121")
    reuse = feature_reuse(model)
    assert [len(block.targets) for block in reuse.blocks] == [7, 13, 25, 17]
    assert [block.targets[-1] for block in reuse.blocks] == [
        "transition 1",
        "transition 2",
        "transition 3",
        "classifier",
    ]
    assert [block.source_maps[0] for block in reuse.blocks] == [64, 128, 256, 512]
    # Fresh weights of He's normal distribution: their mean absolute value is sqrt(2 / pi) deviations.
    for value in reuse.blocks[2].of_target(12):
        assert value == pytest.approx(math.sqrt(2 / math.pi) * math.sqrt(2 / 128), rel=0.03)
    assert len(reuse.rows()) == sum(n * (n + 1) // 2 for n in (7, 13, 25, 17))


def test_the_data_is_json() -> None:
    reuse = feature_reuse(DenseNet(small_config(), "reference"))
    data = json.loads(json.dumps(reuse.to_dict()))
    assert data["normalization"] == "mean"
    assert data["blocks"][0]["values"][1][0] is None
    assert reuse.rows()[0].block == 1


def test_a_layer_of_zeros_is_no_division_by_zero(by_hand: DenseNet) -> None:
    nn.init.zeros_(by_hand.features.denseblock1.denselayer2.conv1.weight)
    for normalization in ("mean", "l1", "share", "largest"):
        assert feature_reuse(by_hand, ReuseConfig(normalization=normalization)).blocks[0].of_target(1) == [
            0.0,
            0.0,
        ]


def test_weights_that_are_no_numbers_are_told(by_hand: DenseNet) -> None:
    nn.init.constant_(by_hand.features.denseblock2.denselayer1.conv1.weight, math.nan)
    with pytest.raises(InputError, match="weights of dense block 2 are not finite"):
        feature_reuse(by_hand)


def test_what_has_no_heat_map_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="the network is a ResNet; feature reuse is of dense blocks"):
        feature_reuse(create_model("resnet8"))
    model = DenseNet(small_config(), "reference")
    with pytest.raises(InputError, match="normalization must be one of mean, l1, share, largest, got 'max'"):
        ReuseConfig(normalization="max")  # type: ignore[arg-type]
    model.classifier = nn.Sequential(nn.Linear(20, 5))
    with pytest.raises(InputError, match="the classifier is a Sequential; feature reuse needs a linear"):
        feature_reuse(model)
