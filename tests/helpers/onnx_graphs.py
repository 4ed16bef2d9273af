"""ONNX files of PyTorch's two exporters, and small graphs of our making."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn


def export(model: nn.Module, path: Path, example: Tensor, *, dynamo: bool) -> Path:
    """Export a network in evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters that are on their way in or out
        torch.onnx.export(model.eval(), (example,), path, dynamo=dynamo, verbose=False)
    return path


_NORMS = nn.modules.batchnorm._BatchNorm
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, _NORMS)


def expected_layers(model: nn.Module) -> list[dict[str, Tensor]]:
    """The tensors of each layer in order, with norms folded into the convolutions before them."""
    leaves = [
        (name.rpartition(".")[0], module)
        for name, module in model.named_modules()
        if isinstance(module, _LAYERS)
    ]
    found: list[dict[str, Tensor]] = []
    for place, (parent, module) in enumerate(leaves):
        before_parent, before = leaves[place - 1]
        is_norm = isinstance(module, _NORMS)
        if is_norm and place and parent == before_parent and isinstance(before, _LAYERS[:3]):
            factor = module.weight / (module.running_var + module.eps).sqrt()
            shape = (-1, *[1] * (before.weight.dim() - 1))
            bias = module.bias - module.running_mean * factor
            found[-1] = {"weight": before.weight * factor.view(shape), "bias": bias}
            continue
        tensors = {"weight": module.weight, "bias": module.bias}
        if is_norm:
            tensors |= {"running_mean": module.running_mean, "running_var": module.running_var}
        found.append({role: value for role, value in tensors.items() if value is not None})
    return [{role: value.detach() for role, value in tensors.items()} for tensors in found]


def changed(source: Path, path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A copy of a file with another graph."""
    model = onnx.load_model(source)
    change(model)
    onnx.save_model(model, path)
    return path


def nodes(model: onnx.ModelProto, operator: str) -> list[onnx.NodeProto]:
    """Nodes of a type."""
    return [node for node in model.graph.node if node.op_type == operator]


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Give a node another attribute, or one that it lacked."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    kind = AttributeProto.INTS if value == [] else None
    node.attribute.extend([*kept, helper.make_attribute(name, value, attr_type=kind)])


def graph(
    path: Path, steps: Sequence[tuple[str, list[str], str, dict[str, Any]]], **constants: np.ndarray
) -> Path:
    """Write a graph from `x` to the last result: (operator, inputs, output, attributes) of each node."""
    made = [
        helper.make_node(operator, inputs, [output], name=f"node {output}", **attributes)
        for operator, inputs, output, attributes in steps
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", steps[-1][2])]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(made, "graph", values[:1], values[1:], tensors))
    path.write_bytes(model.SerializeToString())
    return path
