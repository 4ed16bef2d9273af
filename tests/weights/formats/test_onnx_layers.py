"""Norms and biases that ONNX graphs write in other words, by what PyTorch computes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from native_parsers import parse_here
from onnx_graphs import graph
from torch import Tensor
from torch.nn.functional import batch_norm

from densenets.engines.description import FORMAT
from densenets.errors import InputError
from densenets.weights.formats.file_modules import FileModule
from densenets.weights.formats.onnx_file import read_onnx


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_here(monkeypatch)


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
    assert found.unused == {
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
    assert found.unused.keys() == {"a", "two"}


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
    assert found.unused == {"mean": "of the preprocessing in the graph"}
    assert found.normalizes


def test_what_was_exported_from_a_checkpoint_is_told_so(tmp_path: Path) -> None:
    steps = [("Conv", ["x", "stem"], "y", {"pads": [1, 1, 1, 1]})]
    path = graph(tmp_path / "a.onnx", steps, stem=WEIGHTS["stem"])
    model = onnx.load_model(path)
    onnx.helper.set_model_props(model, {"format": FORMAT})
    onnx.save_model(model, path)
    with pytest.raises(InputError, match="was exported from a checkpoint of densenets: predict and evaluate"):
        read_onnx(path)
