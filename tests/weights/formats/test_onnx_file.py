"""ONNX files of DenseNets, against the networks that PyTorch exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from foreign_weights import Port, randomized, small_network
from monai.networks.nets import DenseNet as MonaiDenseNet
from native_parsers import parse_here
from onnx_graphs import changed, expected_layers, export, graph, nodes, set_attribute
from timm.models.densenet import DenseNet as TimmDenseNet
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models.densenet import DenseNet as TorchvisionDenseNet

from densenets.errors import InputError
from densenets.weights.formats.file_modules import NetworkFile
from densenets.weights.formats.onnx_file import read_onnx


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_here(monkeypatch)


def torchvision_network() -> nn.Module:
    return randomized(
        TorchvisionDenseNet(growth_rate=4, block_config=(2, 1), num_init_features=8, num_classes=5)
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "torchvision": (torchvision_network, (1, 3, 32, 32)),
    "timm": (
        lambda: randomized(TimmDenseNet(growth_rate=4, block_config=(2, 1), num_classes=5)),
        (1, 3, 32, 32),
    ),
    "monai": (
        lambda: randomized(MonaiDenseNet(3, 1, 3, init_features=8, growth_rate=4, block_config=(2, 1))),
        (1, 1, 32, 32, 32),
    ),
    "signals": (
        lambda: randomized(MonaiDenseNet(1, 2, 3, init_features=8, growth_rate=4, block_config=(2, 1))),
        (1, 2, 64),
    ),
    "ours": (small_network, (1, 3, 16, 16)),
}


def check(found: NetworkFile, model: nn.Module) -> None:
    """Check that each layer is there with each number, in the order of computation."""
    expected = expected_layers(model)
    assert len(found.modules) == len(expected)
    for module, own in zip(found.modules, expected, strict=True):
        assert module.tensors.keys() == module.keys.keys() == own.keys()
        is_folded = module.kind == "convolution" and "bias" in own
        for role, value in module.tensors.items():
            tolerance = {"rtol": 1e-4, "atol": 1e-5} if is_folded else {"rtol": 0, "atol": 0}
            torch.testing.assert_close(value, own[role], **tolerance)
    norms = [module for module in found.modules if module.kind == "norm"]
    assert {module.epsilon for module in norms} == {1e-5}
    assert found.in_order
    assert found.program == "ONNX"


def keys_of(path: Path) -> set[str]:
    model = onnx.load_model(path, load_external_data=False)
    return {tensor.name for tensor in model.graph.initializer} | {
        node.output[0] for node in nodes(model, "Constant")
    }


@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_an_export_is_read(tmp_path: Path, name: str, dynamo: bool) -> None:
    build, shape = NETWORKS[name]
    model = build()
    path = export(model, tmp_path / "model.onnx", torch.rand(shape), dynamo=dynamo)
    found = read_onnx(path)
    check(found, model)
    assert found.new_maps == "last"
    used = {key for module in found.modules for key in module.keys.values()}
    assert used | found.unused.keys() == keys_of(path)
    assert not used & found.unused.keys()
    assert len({module.name for module in found.modules}) == len(found.modules)
    assert not found.notes


class Network(nn.Module):
    """A small DenseNet that puts a layer's new maps where it is told to."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 2 * layer) for layer in range(4))
        self.convs = nn.ModuleList(
            nn.Conv2d(4 + 2 * layer, 2, 3, padding=1, bias=False) for layer in range(3)
        )
        self.classifier = nn.Linear(10, 5)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.conv0(x)]
        for number, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=False)):
            new = conv(norm(torch.cat(maps, 1)).relu())
            if self.order == "first" or (self.order == "mixed" and number == 1):
                maps = [new, *maps]
            elif self.order == "between" and number == 1:
                maps = [maps[0], new, *maps[1:]]
            else:
                maps = [*maps, new]
        x = self.norms[3](torch.cat(maps, 1)).relu()
        return self.classifier(adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize("dynamo", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("order", ["last", "first"])
def test_where_new_maps_stand_is_read_from_the_graph(tmp_path: Path, order: str, dynamo: bool) -> None:
    model = randomized(Network(order))
    path = export(model, tmp_path / "model.onnx", torch.rand(1, 3, 8, 8), dynamo=dynamo)
    assert read_onnx(path).new_maps == order


@pytest.mark.parametrize("order", ["mixed", "between"])
def test_new_maps_now_here_and_now_there_are_refused(tmp_path: Path, order: str) -> None:
    path = export(Network(order), tmp_path / "model.onnx", torch.rand(1, 3, 8, 8), dynamo=False)
    with pytest.raises(InputError, match="puts new maps neither behind all older ones nor before them"):
        read_onnx(path)


def test_a_last_pool_of_some_size_is_taken_for_the_mean(tmp_path: Path) -> None:
    model = randomized(Port(1, 4, bottleneck=True))
    found = read_onnx(export(model, tmp_path / "model.onnx", torch.rand(1, 3, 32, 32), dynamo=False))
    assert len(found.modules) == 1 + 3 * 3 + 2 * 2 + 2  # with a norm folded in every layer
    assert found.notes == ("its last pool is taken for the mean of all pixels; it is of [8, 8]",)


# Other functions


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    return export(torchvision_network(), path, torch.rand(1, 3, 32, 32), dynamo=False)


def rename(operator: str, other: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    """Make the last node of a type one of another."""

    def change(model: onnx.ModelProto) -> None:
        node = nodes(model, operator)[-1]
        node.op_type = other
        for name, value in attributes.items():
            set_attribute(node, name, value)

    return change


def setting(operator: str, name: str, value: Any, place: int = 0) -> Callable[[onnx.ModelProto], None]:
    return lambda model: set_attribute(nodes(model, operator)[place], name, value)


def without(operator: str) -> Callable[[onnx.ModelProto], None]:
    """Take a node out: what read its result reads its input."""

    def change(model: onnx.ModelProto) -> None:
        (node, *_) = nodes(model, operator)
        for other in model.graph.node:
            for place, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[place] = node.input[0]
        model.graph.node.remove(node)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename("Relu", "LeakyRelu"), "LeakyRelu /Relu is none that a DenseNet has"),
        (rename("Relu", "Identity"), "reads norm, where a DenseNet's reads relu"),
        (rename("AveragePool", "MaxPool"), r"MaxPool .* is over \[2, 2\] pixels"),
        (setting("AveragePool", "strides", [1, 1]), r"strides \[1, 1\] and padding \[0, 0\]"),
        (setting("AveragePool", "ceil_mode", 1), "rounds up or is dilated"),
        (without("AveragePool"), "are not pooled before the next block"),
        (without("MaxPool"), "reads relu, where a DenseNet's reads"),
        (setting("Conv", "strides", [1, 1]), r"convolution of 7 pixels has 2 and 3"),
        (setting("Conv", "pads", [2, 2, 2, 2]), r"convolution of 7 pixels has 2 and 3"),
        (setting("Conv", "pads", [2, 2, 3, 3]), "pads one side more than the other"),
        (setting("Conv", "pads", [0, 0, 0, 0], 2), r"convolution of 3 pixels has 1 and 1"),
        (setting("Conv", "dilations", [2, 2], 2), "is dilated or has groups"),
        (setting("Conv", "auto_pad", "SAME_UPPER"), "pads one side more than the other"),
        (setting("BatchNormalization", "training_mode", 1), "takes the statistics of a batch"),
        (setting("Concat", "axis", 2, 1), "not along the channels"),
        (setting("Gemm", "alpha", 2.0), "is no linear layer of a DenseNet"),
        (rename("Concat", "Sum"), "puts maps together, as no DenseNet does"),
    ],
)
def test_what_a_densenet_does_not_compute_is_refused(
    tmp_path: Path, exported: Path, change: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    read_onnx(exported)
    with pytest.raises(InputError, match=reason):
        read_onnx(changed(exported, tmp_path / "model.onnx", change))


def test_a_quantised_graph_is_refused(tmp_path: Path) -> None:
    steps = [("DequantizeLinear", ["stem", "scale"], "w", {}), ("Conv", ["x", "w"], "y", {})]
    weights = {"stem": np.ones((3, 2, 3, 3), np.int8), "scale": np.array(0.1, np.float32)}
    with pytest.raises(InputError, match="DequantizeLinear node w says that it is quantised; export"):
        read_onnx(graph(tmp_path / "a.onnx", steps, **weights))
