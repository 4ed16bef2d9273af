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
from onnx import TensorProto, helper
from onnx_graphs import changed, expected_layers, export, graph, nodes, set_attribute
from timm.models.densenet import DenseNet as TimmDenseNet
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, batch_norm
from torchvision.models.densenet import DenseNet as TorchvisionDenseNet

from densenets.errors import InputError
from densenets.weights.file_modules import FileModule, NetworkFile
from densenets.weights.onnx_file import read_onnx


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
    assert used | found.others.keys() == keys_of(path)
    assert not used & found.others.keys()
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


# Norms in other words

STEM = ("Conv", ["x", "stem"], "s", {"pads": [1, 1, 1, 1]})
WEIGHTS = {"stem": np.ones((3, 2, 3, 3), np.float32), "next": np.ones((4, 3, 1, 1), np.float32)}
END = [("Relu", ["n"], "r", {}), ("Conv", ["r", "next"], "y", {})]


def vector(*numbers: float, dims: int = 2) -> np.ndarray:
    return np.array(numbers, np.float32).reshape(-1, *[1] * dims)


def affine(module: FileModule) -> tuple[Tensor, Tensor]:
    """The scale and the shift by which a norm acts on each channel, as PyTorch computes it."""
    assert module.epsilon is not None
    tensors = module.tensors
    results = [
        batch_norm(
            torch.full((1, 3), value),
            tensors["running_mean"],
            tensors["running_var"],
            tensors["weight"],
            tensors["bias"],
            eps=module.epsilon,
        )[0]
        for value in (0.0, 1.0)
    ]
    return results[1] - results[0], results[0]


def test_a_factor_and_a_summand_of_each_channel_are_a_norm(tmp_path: Path) -> None:
    steps = [STEM, ("Mul", ["s", "a"], "m", {}), ("Add", ["b", "m"], "n", {}), *END]
    path = graph(tmp_path / "a.onnx", steps, **WEIGHTS, a=vector(2, -3, 0.5), b=vector(1, 0, -4))
    stem, norm, _ = read_onnx(path).modules
    assert stem.tensors.keys() == {"weight"}
    assert (norm.kind, norm.keys) == ("norm", {"weight": "a", "bias": "b"})
    scale, shift = affine(norm)
    torch.testing.assert_close(scale, torch.tensor([2, -3, 0.5]))
    torch.testing.assert_close(shift, torch.tensor([1.0, 0, -4]))


def test_the_arithmetic_of_a_norm_in_steps_is_a_norm(tmp_path: Path) -> None:
    steps = [
        STEM,
        ("Sub", ["s", "mean"], "c", {}),
        ("Div", ["c", "deviation"], "d", {}),
        ("Mul", ["d", "gamma"], "g", {}),
        ("Add", ["g", "beta"], "n", {}),
        *END,
    ]
    constants = {
        "mean": vector(1, 2, 3),
        "deviation": vector(2, 4, 8),
        "gamma": vector(1, -1, 2),
        "beta": vector(5, 6, 7),
    }
    found = read_onnx(graph(tmp_path / "a.onnx", steps, **WEIGHTS, **constants))
    scale, shift = affine(found.modules[1])
    torch.testing.assert_close(scale, torch.tensor([0.5, -0.25, 0.25]))
    torch.testing.assert_close(shift, torch.tensor([4.5, 6.5, 6.25]))
    assert found.others == {
        "beta": "folded into the norm node c",
        "gamma": "folded into the norm node c",
    }


def test_what_stands_behind_a_norm_becomes_part_of_it(tmp_path: Path) -> None:
    steps = [
        STEM,
        ("BatchNormalization", ["s", "w", "b", "m", "v"], "bn", {"epsilon": 0.25}),
        ("Mul", ["bn", "a"], "c", {}),
        ("Add", ["c", "two"], "n", {}),
        *END,
    ]
    own = {"w": [1, 2, 3], "b": [4, 5, 6], "m": [1, 1, 2], "v": [0.75, 3.75, 0.75]}
    constants = {name: np.array(values, np.float32) for name, values in own.items()}
    path = graph(
        tmp_path / "a.onnx", steps, **WEIGHTS, **constants, a=vector(2, 2, -1), two=np.array(2, np.float32)
    )
    found = read_onnx(path)
    norm = found.modules[1]
    assert norm.epsilon == 0.25
    assert norm.tensors["running_var"].tolist() == own["v"]
    scale, shift = affine(norm)
    torch.testing.assert_close(scale, torch.tensor([2, 2, -3.0]))
    torch.testing.assert_close(shift, torch.tensor([8.0, 10, 2]))
    assert found.others.keys() == {"a", "two"}


def test_a_summand_behind_a_convolution_or_a_product_is_its_bias(tmp_path: Path) -> None:
    steps = [
        ("Conv", ["x", "stem"], "c", {"pads": [1, 1, 1, 1]}),
        ("Add", ["c", "shift"], "r", {}),
        ("Relu", ["r"], "a", {}),
        ("GlobalAveragePool", ["a"], "p", {}),
        ("Flatten", ["p"], "f", {}),
        ("MatMul", ["f", "w"], "l", {}),
        ("Add", ["b", "l"], "y", {}),
        ("Softmax", ["y"], "z", {}),
    ]
    weight, bias = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([7, 8], np.float32)
    path = graph(tmp_path / "a.onnx", steps, stem=WEIGHTS["stem"], shift=vector(1, 2, 3), w=weight, b=bias)
    found = read_onnx(path)
    convolution, linear = found.modules
    assert convolution.tensors["bias"].tolist() == [1, 2, 3]
    assert linear.kind == "linear"
    np.testing.assert_array_equal(linear.weight.numpy(), weight.T)
    assert linear.tensors["bias"].tolist() == [7, 8]
    assert found.notes == ("its outputs are Softmax of the logits; the checkpoint's are the logits",)


def test_channels_that_come_last_are_read_as_well(tmp_path: Path) -> None:
    to_first, to_last = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
    steps = [
        ("Pad", ["x", "pads"], "p", {}),
        ("Transpose", ["p"], "t", to_first),
        ("Conv", ["t", "stem"], "c", {}),
        ("Transpose", ["c"], "l", to_last),
        ("Mul", ["l", "a"], "m", {}),
        ("Add", ["m", "b"], "n", {}),
        ("Relu", ["n"], "r", {}),
        ("Transpose", ["r"], "f", to_first),
        ("Conv", ["f", "next"], "k", {}),
        ("Transpose", ["k"], "kl", to_last),
        ("Concat", ["l", "kl"], "y", {"axis": 3}),
    ]
    pads = np.array([0, 1, 1, 0, 0, 1, 1, 0], np.int64)
    numbers = {"a": np.array([2, 3, 4], np.float32), "b": np.array([5, 6, 7], np.float32)}
    found = read_onnx(graph(tmp_path / "a.onnx", steps, **WEIGHTS, **numbers, pads=pads))
    assert [module.kind for module in found.modules] == ["convolution", "norm", "convolution"]
    assert affine(found.modules[1])[1].tolist() == [5, 6, 7]
    assert found.new_maps == "last"


def test_scaled_pixels_are_told_of(tmp_path: Path) -> None:
    steps = [("Sub", ["x", "mean"], "p", {}), ("Conv", ["p", "stem"], "y", {"pads": [1, 1, 1, 1]})]
    path = graph(tmp_path / "a.onnx", steps, stem=WEIGHTS["stem"], mean=vector(1, 2))
    found = read_onnx(path)
    assert found.others == {"mean": "of the preprocessing in the graph"}
    assert "begins with a Sub of the pixels, which is left out" in found.notes[0]


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


# Files that were made to do harm


def test_no_file_a_folder_and_text_are_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no weights file"):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is not a file"):
        read_onnx(tmp_path)
    for content in (b"not weights\n", b""):
        (tmp_path / "text.onnx").write_bytes(content)
        with pytest.raises(InputError, match=r"text\.onnx cannot be read: it is not a whole ONNX file"):
            read_onnx(tmp_path / "text.onnx")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, exported: Path) -> None:
    content = exported.read_bytes()
    for share in (0.3, 0.9):
        (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match="is not a whole ONNX file"):
            read_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize("dims", [[10**5, 10**5, 3, 3], [2**62, 2**62], [-1, 3]])
def test_sizes_that_a_tensor_only_claims_take_no_memory(tmp_path: Path, dims: list[int]) -> None:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    path = graph(tmp_path / "a.onnx", [STEM], stem=WEIGHTS["stem"])
    with pytest.raises(InputError, match=r"are much larger than the file itself|has a negative size"):
        read_onnx(changed_proto(path, change))


def changed_proto(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load_model(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_layers_that_share_their_tensors_are_not_spread_out(tmp_path: Path) -> None:
    steps = [STEM]
    for number in range(400):
        before = f"k{number - 1}" if number else "s"
        steps += [
            ("BatchNormalization", [before, "w", "w", "w", "w"], f"n{number}", {}),
            ("Relu", [f"n{number}"], f"r{number}", {}),
            ("Conv", [f"r{number}", "next"], f"k{number}", {}),
        ]
    channels = 1500
    weights = {
        "stem": np.ones((channels, 1, 3, 3), np.float32),
        "w": np.ones(channels, np.float32),
        "next": np.ones((channels, channels, 1, 1), np.float32),
    }
    with pytest.raises(InputError, match="are much larger than the file itself"):
        read_onnx(graph(tmp_path / "a.onnx", steps, **weights))


def external(path: Path, location: str, **places: int) -> Path:
    """A graph whose convolution's weight lies in another file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **places}.items():
            tensor.external_data.add(key=key, value=str(value))

    return changed_proto(graph(path, [STEM], stem=WEIGHTS["stem"]), change)


def test_numbers_in_a_file_beside_it_are_read(tmp_path: Path) -> None:
    numbers = np.arange(54, dtype=np.float32)
    (tmp_path / "numbers").write_bytes(bytes(8) + numbers.tobytes())
    found = read_onnx(external(tmp_path / "a.onnx", "numbers", offset=8, length=4 * 54))
    np.testing.assert_array_equal(found.modules[0].weight.numpy(), numbers.reshape(3, 2, 3, 3))
    for places in ({"offset": 12}, {"offset": -8}, {"length": 4}, {"offset": 10**18}):
        with pytest.raises(InputError, match="stem is not whole in numbers, the file of its numbers"):
            read_onnx(external(tmp_path / "a.onnx", "numbers", **places))


def test_numbers_are_read_from_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inner").mkdir()
    for location in (
        "../secret",
        str(tmp_path / "secret"),
        "inner/../../secret",
        "C:secret",
        "..\\secret",
        "",
    ):
        with pytest.raises(InputError, match="which is not inside of its own folder"):
            read_onnx(external(folder / "a.onnx", location))
    for location, reason in (
        ("link", "a link out of its own folder"),
        ("inner", "missing"),
        ("no", "missing"),
    ):
        with pytest.raises(InputError, match=reason):
            read_onnx(external(folder / "a.onnx", location))


def test_half_the_bits_of_a_number_keep_its_value(tmp_path: Path) -> None:
    values = torch.rand(3, 2, 3, 3).bfloat16()

    def change(model: onnx.ModelProto) -> None:
        bits = values.view(torch.int16).numpy().tobytes()
        tensor = helper.make_tensor("stem", TensorProto.BFLOAT16, values.shape, bits, raw=True)
        model.graph.initializer[0].CopyFrom(tensor)

    path = graph(tmp_path / "a.onnx", [STEM], stem=WEIGHTS["stem"])
    found = read_onnx(changed_proto(path, change))
    assert found.modules[0].weight.dtype == torch.float32
    assert (found.modules[0].weight == values).all()
