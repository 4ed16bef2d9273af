"""The walk through an ONNX graph, from its input on: its layers in order, and whether they make a DenseNet.

Each value that is computed is known by what made it, so that what a node may read is a short table. Nodes
that only move numbers (Identity, Cast, Transpose, Reshape, Dropout) are passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor

from densenets.errors import InputError
from densenets.weights.formats.file_modules import NewMaps
from densenets.weights.formats.maps_order import maps_order
from densenets.weights.formats.native_content import ByteBudget, OnnxContent, OnnxNode, OnnxTensor
from densenets.weights.formats.onnx_constants import Constant, computed, integer, integers
from densenets.weights.formats.onnx_layers import EPSILON, GraphLayer, unfused_norm
from densenets.weights.formats.onnx_maps import (
    Made,
    Maps,
    by_channel,
    layer_name,
    padded,
    padding,
    title,
    transposed,
)

# What a DenseNet's layer may read.
_READS: dict[Made, set[Made]] = {
    "convolution": {"input", "relu"},
    "norm": {"convolution", "concatenation", "max pool", "average pool"},
    "relu": {"norm", "convolution"},  # a convolution into which its norm was folded
    "max pool": {"relu"},
    "average pool": {"convolution"},
    "concatenation": {"convolution", "concatenation", "max pool", "average pool"},
    "mean": {"relu"},
    "linear": {"mean"},
}
_PASSED = {"Identity", "Cast", "Dropout"}
_FLATTENED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}  # of what has no pixels any more
_MEANS = {"GlobalAveragePool", "ReduceMean"}
_LAST = {"Softmax", "LogSoftmax", "Sigmoid"}  # what may stand behind the logits
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "ConvInteger", "MatMulInteger")
_STEM_CONVOLUTIONS = {7: (2, 3), 3: (1, 1)}  # kernel -> stride and padding


class Walk:
    """The walk. Its results are complete when `run` has returned.

    Attributes:
        layers: in the order of computation.
        orders: of each concatenation.
        folded: keys of constants that became part of a norm -> which.
        notes: for people.
        normalizes: the graph has operators on its input, which are left out.
    """

    def __init__(self, content: OnnxContent, arrays: Sequence[Tensor]) -> None:
        self.layers: list[GraphLayer] = []
        self.orders: set[NewMaps | None] = set()
        self.folded: dict[str, str] = {}
        self.notes: list[str] = []
        self.normalizes = False
        self._content, self._arrays = content, arrays
        self._constants = {own.name: self._constant(own) for own in content.initializers}
        self._maps = {name: Maps(made="input") for name in content.inputs}
        self._readers: dict[str, list[str]] = {}  # of each value: their operators
        for node in content.nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node.operator)
        self._made_by: Counter[Made] = Counter()
        self._names: set[str] = set()
        # Nodes may share tensors, so a short file could have layers without end.
        self._budget = ByteBudget(sum(array.numel() * array.element_size() for array in arrays))

    def run(self) -> None:
        """Go through all nodes.

        Raises:
            InputError: a node is none of a DenseNet's, or a layer reads or does something else than there.
        """
        for node in self._content.nodes:
            if any(part in node.operator for part in _QUANTISED):
                raise InputError(
                    f"{title(node)} says that it is quantised; export the network as it was before"
                )
            read = [name for name in node.inputs if name in self._maps]
            if read:
                self._visit(node, read)
            elif node.outputs:
                self._constants[node.outputs[0]] = self._made_constant(node)
        self._check_ends()

    @property
    def tensor_names(self) -> list[str]:
        """Names of all tensors that the file holds."""
        values = [own.name for node in self._content.nodes for own in node.tensors.values()]
        return [*(own.name for own in self._content.initializers), *values]

    def _constant(self, tensor: OnnxTensor) -> Constant | None:
        return None if tensor.array is None else Constant(self._arrays[tensor.array], tensor.name)

    def _made_constant(self, node: OnnxNode) -> Constant | None:
        values = [self._constant(own) for own in node.tensors.values()]
        if node.operator == "Constant":
            return values[0] if values else None
        return computed(node, [*(self._constants.get(name) for name in node.inputs), *values])

    def _visit(self, node: OnnxNode, read: Sequence[str]) -> None:
        maps = self._maps[read[0]]
        operator = node.operator
        if operator == "Shape" or not node.outputs:
            return
        if operator == "Concat" and len(node.inputs) > 1:
            result = self._concatenation(node, [self._maps[name] for name in read])
        elif len(read) > 1:
            raise InputError(f"{title(node)} puts maps together, as no DenseNet does")
        elif (
            operator in _PASSED
            or operator == "Concat"
            or (operator in _FLATTENED and maps.made in ("mean", "linear"))
        ):
            result = maps
        elif operator == "Transpose":
            result = transposed(node, maps)
        elif operator == "Unsqueeze" and set(self._readers.get(node.outputs[0], ())) <= _MEANS:
            result = self._with_another_side(node, maps)
        elif operator == "Pad":
            result = padded(node, maps, [self._constants.get(name) for name in node.inputs])
        elif operator == "Conv":
            result = self._convolution(node, maps)
        elif operator == "BatchNormalization":
            result = self._norm(node, maps)
        elif operator == "Relu" or self._is_relu(node):
            result = self._made(node, "relu", maps)
        elif operator in ("MaxPool", "AveragePool", *_MEANS):
            result = self._pool(node, maps)
        elif operator in ("Gemm", "MatMul"):
            result = self._linear(node, maps)
        elif operator in ("Add", "Sub", "Mul", "Div"):
            result = self._affine(node, maps)
        elif operator in _LAST and maps.made == "linear":
            self.notes.append(f"its outputs are {operator} of the logits; the checkpoint's are the logits")
            result = maps
        else:
            raise InputError(f"{title(node)} is none that a DenseNet has")
        self._maps[node.outputs[0]] = result

    def _made(self, node: OnnxNode, made: Made, *read: Maps, layer: GraphLayer | None = None) -> Maps:
        """The result of a node; checks that it reads what a DenseNet's does."""
        for maps in read:
            if maps.made not in _READS[made]:
                fitting = " or ".join(sorted(_READS[made]))
                raise InputError(f"{title(node)} reads {maps.made}, where a DenseNet's reads {fitting}")
            if maps.padding and made in ("norm", "relu", "concatenation", "mean", "linear"):
                raise InputError(f"{title(node)} reads padded maps, as none does in a DenseNet")
            if maps.layer:
                maps.layer.consumers.add(made)
        self._made_by[made] += 1
        if layer:
            self._count(layer.tensors.values(), layer.name)
            self.layers.append(layer)
            self._names.add(layer.name)
        return replace(
            read[0], made=made, depth=1 + max(maps.depth for maps in read), padding=(), layer=layer
        )

    def _count(self, tensors: Iterable[Tensor], name: str) -> None:
        for tensor in tensors:
            self._budget.spend(tensor.numel() * tensor.element_size(), name)

    # Layers

    def _convolution(self, node: OnnxNode, maps: Maps) -> Maps:
        layer = self._with_weights(node, "convolution")
        size = layer.tensors["weight"].shape
        if len(size) not in (3, 4, 5) or maps.channels_last:
            raise InputError(f"{title(node)} has a weight of {len(size)} dimensions")
        sides = size[2:]
        margins = padding(node, maps, sides)
        strides = integers(node, "strides", [1] * len(sides))
        # Other kernels are told by their shapes, which say so without a graph.
        is_stem = maps.made == "input"
        stride, side = _STEM_CONVOLUTIONS.get(sides[0], (1, sides[0] // 2)) if is_stem else (1, sides[0] // 2)
        if set(strides) != {stride} or set(margins) != {side}:
            raise InputError(
                f"{title(node)} has strides {strides} and padding {list(margins)}, where a DenseNet's "
                f"convolution of {sides[0]} pixels has {stride} and {side}"
            )
        if set(integers(node, "dilations", [1])) != {1} or integer(node, "group", 1) != 1:
            raise InputError(f"{title(node)} is dilated or has groups, as none is in a DenseNet")
        result = self._made(node, "convolution", maps, layer=layer)
        return replace(result, rank=len(size), channels=size[0])

    def _norm(self, node: OnnxNode, maps: Maps) -> Maps:
        if integer(node, "training_mode", 0) or len([name for name in node.outputs if name]) > 1:
            raise InputError(
                f"{title(node)} takes the statistics of a batch; export the network after eval()"
            )
        epsilon = float(f"{node.floats.get('epsilon', [EPSILON])[0]:.7g}")  # a float32, as it was written
        layer = GraphLayer(name="", kind="norm", epsilon=epsilon)
        for place, role in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
            layer.set(role, self._weights(node, place))
        if layer.tensors["weight"].dim() != 1:
            raise InputError(f"{title(node)} has no number a channel")
        layer.name = layer_name(node, layer, self._names)
        result = self._made(node, "norm", maps, layer=layer)
        return replace(result, channels=layer.tensors["weight"].shape[0])

    def _linear(self, node: OnnxNode, maps: Maps) -> Maps:
        is_gemm = node.operator == "Gemm"
        factors = [node.floats.get(name, [1.0])[0] for name in ("alpha", "beta")]
        if factors != [1.0, 1.0] or integer(node, "transA", 0) or node.inputs[0] not in self._maps:
            raise InputError(f"{title(node)} is no linear layer of a DenseNet")
        layer = self._with_weights(node, "linear")
        weight = layer.tensors["weight"]
        if weight.dim() != 2:
            raise InputError(f"{title(node)} has a weight of {weight.dim()} dimensions")
        if not (is_gemm and integer(node, "transB", 0)):
            layer.tensors["weight"] = weight.T
        return self._made(node, "linear", maps, layer=layer)

    def _with_weights(self, node: OnnxNode, kind: Literal["convolution", "linear"]) -> GraphLayer:
        layer = GraphLayer(name="", kind=kind)
        layer.set("weight", self._weights(node, 1))
        if len(node.inputs) > 2 and node.inputs[2]:
            layer.set("bias", self._weights(node, 2))
        layer.name = layer_name(node, layer, self._names)
        return layer

    def _weights(self, node: OnnxNode, place: int) -> Constant:
        """A constant of floats that a node reads."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        constant = self._constants.get(name)
        if constant is None or not constant.tensor.is_floating_point():
            raise InputError(f"{title(node)} has no constant weights ({name:.80})")
        return constant

    # Pooling, padding and concatenation

    def _pool(self, node: OnnxNode, maps: Maps) -> Maps:
        if node.operator in _MEANS:
            result = self._made(node, "mean", maps)
            if node.operator == "ReduceMean":
                self._check_mean(node, maps)
            return result
        sides = integers(node, "kernel_shape", ())
        margins = padding(node, maps, sides)
        strides = integers(node, "strides", [1] * len(sides))
        is_max = node.operator == "MaxPool"
        side, margin = (3, 1) if is_max else (2, 0)
        if not sides or set(sides) != {side} or set(strides) != {2} or set(margins) != {margin}:
            if not is_max and maps.made == "relu":
                # The last pool of CIFAR's networks, over all pixels that there are.
                self.notes.append(f"its last pool is taken for the mean of all pixels; it is of {sides}")
                return self._made(node, "mean", maps)
            raise InputError(
                f"{title(node)} is over {sides} pixels with strides {strides} and padding {list(margins)}, "
                f"where a DenseNet's is over {side} with 2 and {margin}"
            )
        if integer(node, "ceil_mode", 0) or set(integers(node, "dilations", [1])) != {1}:
            raise InputError(f"{title(node)} rounds up or is dilated, as none does in a DenseNet")
        return self._made(node, "max pool" if is_max else "average pool", maps)

    def _with_another_side(self, node: OnnxNode, maps: Maps) -> Maps:
        """Maps with one more side, of one pixel, before their mean: the means of signals are exported so."""
        given = self._constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = (given.integers if given else node.integers.get("axes")) or []
        if (
            maps.made != "relu"
            or maps.channels_last
            or any(axis % (maps.rank + len(axes)) < 2 for axis in axes)
        ):
            raise InputError(f"{title(node)} is none that a DenseNet has")
        return replace(maps, rank=maps.rank + len(axes))

    def _check_mean(self, node: OnnxNode, maps: Maps) -> None:
        given = self._constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = given.integers if given else node.integers.get("axes")
        pixels = range(1, maps.rank - 1) if maps.channels_last else range(2, maps.rank)
        if axes is None or sorted(axis % maps.rank for axis in axes) != list(pixels):
            raise InputError(f"{title(node)} is over the axes {axes}, which are not those of the pixels")

    def _concatenation(self, node: OnnxNode, read: Sequence[Maps]) -> Maps:
        if len(read) < len(node.inputs):
            raise InputError(f"{title(node)} puts constants beside maps, as no DenseNet does")
        axis, rank = integer(node, "axis", 1), max(maps.rank for maps in read)
        if len({maps.channels_last for maps in read}) > 1 or axis % max(rank, 1) != (
            rank - 1 if read[0].channels_last else 1
        ):
            raise InputError(f"{title(node)} puts maps together along axis {axis}, not along the channels")
        self.orders.add(maps_order([maps.depth for maps in read], title(node)))
        result = self._made(node, "concatenation", *read)
        return replace(result, channels=sum(maps.channels for maps in read))

    # Operators with a number a channel

    def _affine(self, node: OnnxNode, maps: Maps) -> Maps:
        """An operator with a constant: part of a norm, a bias, or of the preprocessing."""
        name = next((name for name in node.inputs if name not in self._maps), "")
        constant = self._constants.get(name)
        is_first = node.inputs[0] in self._maps
        if constant is None or not (is_first or node.operator in ("Add", "Mul")):
            raise InputError(f"{title(node)} is none that a DenseNet has")
        if maps.made == "input":
            self.normalizes = True
            self.folded[constant.key] = "of the preprocessing in the graph"
            return maps
        layer = maps.layer
        self._count([constant.tensor], constant.key)
        is_bias = node.operator == "Add" and maps.made in ("convolution", "linear")
        is_changed = layer is not None and (is_bias or maps.made == "norm")
        if is_changed and len(self._readers[node.inputs[0 if is_first else 1]]) > 1:
            raise InputError(f"{title(node)} changes maps that are read without that as well")
        if is_bias and layer and "bias" not in layer.tensors:
            channels = layer.tensors["weight"].shape[0]
            numbers = by_channel(node, constant, replace(maps, channels=channels))
            layer.set("bias", Constant(numbers, constant.key))
            return maps
        numbers = by_channel(node, constant, maps)
        if maps.made == "norm" and layer:
            layer.scale_and_shift(node.operator, numbers)
            result = maps
        else:
            layer = unfused_norm(node.name or node.outputs[0], numbers)
            layer.scale_and_shift(node.operator, numbers)
            result = self._made(node, "norm", maps, layer=layer)
        role = "weight" if node.operator in ("Mul", "Div") else "bias"
        if role in layer.keys:
            self.folded[constant.key] = f"folded into the norm {layer.name:.80}"
        else:
            layer.keys[role] = constant.key
        return result

    def _is_relu(self, node: OnnxNode) -> bool:
        """Whether a node is the larger one of its input and zero, in other words."""
        bounds = [self._constants.get(name) for name in node.inputs if name and name not in self._maps]
        if node.operator == "Clip" and not bounds:
            return node.floats.get("min") == [0.0] and node.floats.get("max", [math.inf])[0] > 1e30
        if (
            node.operator not in ("Max", "Clip")
            or len(bounds) != 1
            or (node.operator == "Clip" and not node.inputs[1])
        ):
            return False
        return bounds[0] is not None and bounds[0].tensor.numel() == 1 and not bounds[0].tensor.any()

    def _check_ends(self) -> None:
        """Check what only the whole graph shows."""
        convolutions = [layer for layer in self.layers if layer.kind == "convolution"]
        pools = self._made_by["max pool"]
        if not convolutions:
            raise InputError("its graph has no convolution of its input")
        stem = convolutions[0].tensors["weight"].shape[2]
        if pools != (1 if stem == 7 else 0):
            raise InputError(
                f"its graph has {pools} max pools behind a first convolution of {stem} pixels; a "
                "DenseNet has one behind 7 pixels, and none behind 3"
            )
        for layer in convolutions[1:]:
            if {"concatenation", "norm"} <= layer.consumers:
                raise InputError(f"the maps of {layer.name:.200} are not pooled before the next block")
            if "average pool" in layer.consumers and len(layer.consumers) > 1:
                raise InputError(f"the maps of {layer.name:.200} are read before they are pooled as well")
