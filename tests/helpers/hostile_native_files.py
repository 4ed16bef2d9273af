"""Files for native parsers, Keras' and ONNX', to begin with, and how they are mutated."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import mutations
import numpy as np
import onnx
from onnx_graphs import graph, set_attribute

from densenets.weights.formats import native_files

Read = Callable[[Path], object]


def make_keras(path: Path, number: int) -> None:
    """Layers as Keras 2 or 3 writes them, the latter in an archive as well."""
    rng = np.random.default_rng(number)
    shapes = ((3, 3, 3, 4), (1, 1, 4, 2))
    with h5py.File(path, "w") as file:
        for place, shape in enumerate(shapes):
            name = f"conv2d_{place}" if place else "conv2d"
            key = f"{name}/kernel:0" if number % 3 == 0 else "vars/0"
            group = file.create_group(name if number % 3 == 0 else f"layers/{name}")
            group.create_dataset(
                key, data=rng.random(shape, np.float32), compression=("gzip", None)[number % 2]
            )
            group.attrs["weight_names"] = np.array([key], "S")
        if number % 3 == 0:
            file.attrs["layer_names"] = np.array(["conv2d", "conv2d_1"], "S")
            file.attrs["model_config"] = json.dumps(_KERAS_CONFIG)
    if number % 3 == 1:
        content = path.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(_KERAS_CONFIG))
            archive.writestr("model.weights.h5", content)


_KERAS_CONFIG = {
    "class_name": "Functional",
    "config": {
        "layers": [
            {"class_name": "Conv2D", "config": {"name": "conv2d", "padding": "same"}, "inbound_nodes": []},
            {
                "class_name": "Conv2D",
                "config": {"name": "conv2d_1", "kernel_size": [1, 1]},
                "inbound_nodes": [{"args": [{"config": {"keras_history": ["conv2d", 0, 0]}}], "kwargs": {}}],
            },
            {"class_name": "Concatenate", "name": "c", "inbound_nodes": [[["conv2d", 0, 0, {}]]]},
        ]
    },
}


def mutate_keras(path: Path, rng: random.Random) -> None:
    """A damaged file, or an archive with a part that is damaged or says something else."""
    if zipfile.is_zipfile(path) and rng.random() < 0.8:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(parts))
        mutation = mutations.mutated_json if name.endswith(".json") else mutations.damaged
        parts[name] = mutation(parts[name], rng)
        with zipfile.ZipFile(path, "w") as archive:
            for own, part in parts.items():
                archive.writestr(own, part)
    else:
        path.write_bytes(mutations.damaged(path.read_bytes(), rng))


def make_onnx(path: Path, number: int) -> None:
    """A graph of every kind of layer; new maps stand behind the older ones or before them."""
    rng = np.random.default_rng(number)
    shapes = {"stem": (4, 3, 3, 3), "next": (2, 4, 1, 1), "w": (2, 6), "axes": (4, 1, 1)}
    constants = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", ["x", "stem"], "s", {"pads": [1, 1, 1, 1]}),
        ("Mul", ["s", "axes"], "n", {}),
        ("Relu", ["n"], "r", {}),
        ("Conv", ["r", "next"], "k", {}),
        ("Concat", ["s", "k"][:: 1 - 2 * (number % 2)], "c", {"axis": 1}),
        ("BatchNormalization", ["c", "v", "v", "v", "v"], "n2", {"epsilon": 1e-3}),
        ("Relu", ["n2"], "r2", {}),
        ("GlobalAveragePool", ["r2"], "p", {}),
        ("Flatten", ["p"], "f", {}),
        ("Gemm", ["f", "w"], "y", {"transB": 1}),
    ]
    graph(path, steps, **constants, v=rng.random(6, np.float32))


def mutate_onnx(path: Path, rng: random.Random) -> None:
    """A graph with other sizes, attributes or names, or nodes missing, doubled or of another type."""
    if rng.random() < 0.3:
        path.write_bytes(mutations.damaged(path.read_bytes(), rng))
        return
    model = onnx.load_model(path)
    mutate_graph(model, rng)
    path.write_bytes(model.SerializeToString())


def mutate_graph(model: onnx.ModelProto, rng: random.Random) -> None:
    """Change one to five places of a graph."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        node, tensor = rng.choice(model.graph.node), rng.choice(model.graph.initializer)
        change = rng.randrange(6)
        if change == 0 and tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, 1, -1, 2**20, 2**40, 2**62))
        elif change == 1:
            del tensor.dims[rng.randrange(len(tensor.dims) + 1) :]
            tensor.data_type = rng.choice((1, 1, 7, 9, 10, 11, 16, 99))
        elif change == 2 and node.input:
            names = [name for other in model.graph.node for name in (*other.input, *other.output)]
            node.input[rng.randrange(len(node.input))] = rng.choice((*names, "", "none"))
        elif change == 3:
            others = (
                "Add",
                "Div",
                "Pad",
                "Transpose",
                "Unsqueeze",
                "ReduceMean",
                "MaxPool",
                "MatMul",
                "Clip",
            )
            node.op_type = rng.choice((*(other.op_type for other in model.graph.node), *others))
        elif change == 4 and node.attribute:
            value = rng.choice((0, -1, 2**62, [], [0], [-1, 2**62], [2, 2, 2, 2], float("nan"), "SAME_UPPER"))
            set_attribute(node, node.attribute[0].name, value)
        else:
            model.graph.node.append(node) if rng.random() < 0.5 else model.graph.node.remove(node)
        if not model.graph.node:
            break


def natively(read: Read) -> Read:
    """A reader that gives up a native parser after seconds: some damaged files keep HDF5 busy without end."""

    def use(path: Path) -> object:
        with mock.patch.object(native_files, "SECONDS", 5.0):
            return read(path)

    return use
