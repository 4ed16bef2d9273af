"""Network in Network, All-CNN and Deeply Supervised Net: layers, sizes, companions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from densenets.errors import InputError
from densenets.models.baselines.convnet import ConvNet
from densenets.models.baselines.convnet_config import ConvLayer, ConvNetConfig, Pooling
from densenets.models.network import CompanionLogits, all_logits
from densenets.models.registry import named_config
from densenets.weights.pretrained import create_model


def small(**changes: Any) -> ConvNetConfig:
    layers = (
        ConvLayer(channels=4, kernel=5, companion=True),
        ConvLayer(channels=6, kernel=3, pooling="max", dropout=0.5),
        ConvLayer(channels=5, kernel=3, companion=True),
    )
    return ConvNetConfig(**{"layers": layers, "last_relu": False, "image_size": 9, **changes})


def built(config: ConvNetConfig) -> ConvNet:
    return ConvNet(config, torch.Generator().manual_seed(0))


def sizes(name: str, side: int) -> list[tuple[int, ...]]:
    """The sides of the maps that each convolution makes."""
    model = create_model(name).eval()
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    model(torch.zeros(1, 3, side, side))
    return seen


def test_network_in_network_halves_twice_and_ends_in_a_map_a_class() -> None:
    assert sizes("nin", 32) == [
        (192, 32, 32), (160, 32, 32), (96, 32, 32),
        (192, 16, 16), (192, 16, 16), (192, 16, 16),
        (192, 8, 8), (192, 8, 8), (10, 8, 8),
    ]  # fmt: skip


def test_all_cnn_has_strides_for_pooling_and_averages_six_by_six() -> None:
    assert sizes("all-cnn", 32) == [
        (96, 32, 32), (96, 32, 32), (96, 16, 16),
        (192, 16, 16), (192, 16, 16), (192, 8, 8),
        (192, 6, 6), (192, 6, 6), (10, 6, 6),
    ]  # fmt: skip
    assert not [module for module in create_model("all-cnn").modules() if "Pool" in type(module).__name__]


def test_pooling_rounds_up_as_caffe_does() -> None:
    layer = ConvLayer(channels=1, kernel=1, pooling="max")
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for side in range(2, 40):
        assert layer.pooled(side) == pool(torch.zeros(1, 1, side, side)).shape[-1]


@pytest.mark.parametrize(("name", "smallest"), [("nin", 4), ("all-cnn", 9), ("dsn", 4)])
def test_the_smallest_image_is_enough_and_nothing_smaller(name: str, smallest: int) -> None:
    config = named_config(name).for_images(10, 3, smallest)
    assert isinstance(config, ConvNetConfig)
    assert ConvNet(config).eval()(torch.zeros(2, 3, smallest, smallest)).shape == (2, 10)
    with pytest.raises(InputError, match=f"at least {smallest}x{smallest} pixels"):
        config.for_images(10, 3, smallest - 1)


@pytest.mark.parametrize("pooling", ["none", "max"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (4, 3), (1, 5)])
def test_the_smallest_side_of_a_layer_is_what_trying_finds(
    kernel: int, stride: int, padded: bool, pooling: Pooling
) -> None:
    layer = ConvLayer(channels=1, kernel=kernel, stride=stride, padded=padded, pooling=pooling)
    for needed in range(1, 6):
        enough = (s for s in range(1, 99) if min(layer.convolved(s), layer.pooled(layer.convolved(s))) >= 1)
        assert layer.smallest(needed) == next(s for s in enough if layer.pooled(layer.convolved(s)) >= needed)


def test_a_side_that_no_image_has_is_found_at_once() -> None:
    layers = (ConvLayer(channels=1, kernel=255, stride=255, padded=False),) * 256
    fields = {"last_relu": True, "num_classes": 2}
    assert ConvNetConfig(layers=layers, **fields).smallest_size > 255**255


def test_initial_weights_have_the_authors_deviation() -> None:
    model = create_model("nin", generator=torch.Generator().manual_seed(0))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert float(module.weight.detach().std()) == pytest.approx(0.05, rel=0.05)
            assert module.bias is not None
            assert not module.bias.any()


def test_logits_are_the_means_of_the_last_maps() -> None:
    model = built(small()).eval()
    x = torch.randn(2, 3, 9, 9)
    maps = model.classifier(model.forward_features(x))
    torch.testing.assert_close(model(x), maps.mean(dim=(2, 3)))
    rectified = built(small(last_relu=True)).eval()
    torch.testing.assert_close(rectified(x), maps.relu().mean(dim=(2, 3)))


# Companion classifiers


def test_companions_speak_in_training_alone() -> None:
    model, x = built(small()), torch.randn(2, 3, 9, 9)
    output = model(x)
    assert isinstance(output, CompanionLogits)
    assert [logits.shape for logits in all_logits(output)] == [(2, 10)] * 3
    model.eval()
    assert isinstance(model(x), torch.Tensor)
    assert isinstance(create_model("nin")(torch.zeros(1, 3, 32, 32)), torch.Tensor)


def test_a_companion_reads_what_its_convolution_made_before_relu() -> None:
    model = built(small(layers=(ConvLayer(channels=4, kernel=3, companion=True),)))
    x = torch.randn(2, 3, 9, 9)
    convolved = model.features.get_submodule("conv1")(x)
    assert (convolved < 0).any()
    expected = model.companions["conv1"](convolved.flatten(1))
    output = model(x)
    assert isinstance(output, CompanionLogits)
    torch.testing.assert_close(output.companions[0], expected)


def test_a_companions_loss_reaches_its_layer_and_none_behind_it() -> None:
    model = built(small())
    output = model(torch.randn(4, 3, 9, 9))
    assert isinstance(output, CompanionLogits)
    cross_entropy(output.companions[0], torch.tensor([0, 1, 2, 3])).backward()
    reached = {key.rpartition(".")[0] for key, p in model.named_parameters() if p.grad is not None}
    assert reached == {"features.conv1", "companions.conv1"}


def test_companions_are_those_of_the_three_spatial_convolutions() -> None:
    config = named_config("dsn")
    assert isinstance(config, ConvNetConfig)
    assert config.companions() == [(1, 192 * 32 * 32), (4, 192 * 16 * 16), (7, 192 * 8 * 8)]
    grey = config.for_images(10, 1, 28)
    assert grey.companions()[0] == (1, 192 * 28 * 28)


def test_a_fresh_classifier_renews_the_companions() -> None:
    model = built(small()).double()
    model.reset_classifier(3)
    output = model(torch.randn(2, 3, 9, 9, dtype=torch.float64))
    assert [logits.shape for logits in all_logits(output)] == [(2, 3)] * 3
    assert model.config.num_classes == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, r"layers must be .*, got \(\)"),
        (
            {"layers": (ConvLayer(channels=0, kernel=3),)},
            "layer 1: channels, kernel and stride must be at least 1",
        ),
        ({"layers": (ConvLayer(channels=3, kernel=3, pooling="mean"),)}, "pooling 'mean' is unknown"),  # type: ignore[arg-type]
        ({"layers": (ConvLayer(channels=3, kernel=3, dropout=1),)}, "dropout must be .*, got 1"),
        ({"input_dropout": -0.1}, "input_dropout must be .*, got -0.1"),
        ({"weight_deviation": -1}, "weight_deviation must be .*, got -1"),
        ({"weight_deviation": float("inf")}, "weight_deviation must be at least 0 and finite, got inf"),
        ({"image_size": 10**9}, "image_size must be at most 4096, got 1000000000"),
        ({"layers": (ConvLayer(channels=3, kernel=10**6),)}, "layer 1: channels must be at most"),
        ({"layers": (ConvLayer(channels=3, kernel=3),) * 300}, "layers must be at most 256, got 300"),
        ({"image_size": 0}, "image_size must be .*, got 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_a_dropout_that_one_number_cannot_set_is_refused() -> None:
    with pytest.raises(InputError, match="a network of convolutions has no dropout to set"):
        small().with_dropout(0.1)
    assert dataclasses.replace(small(), input_dropout=0.1).input_dropout == 0.1
