"""The nodes of an ONNX graph and its constant tensors. Needs no PyTorch.

Runs in the process of `native_worker`. A graph's tensors may lie in further files: only regular files inside
of the folder of the graph's own are read, and no more of them than they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

from densenets.errors import InputError
from densenets.weights.formats.native_content import ByteBudget, OnnxContent, OnnxNode, OnnxTensor

_TYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.BFLOAT16: np.dtype("<u2"),  # whose bits are the upper half of a float32's
    TensorProto.INT8: np.dtype("i1"),
    TensorProto.INT16: np.dtype("<i2"),
    TensorProto.INT32: np.dtype("<i4"),
    TensorProto.INT64: np.dtype("<i8"),
    TensorProto.UINT8: np.dtype("u1"),
    TensorProto.BOOL: np.dtype("?"),
}


def read_onnx_content(
    path: Path, allow_more_memory: Callable[[int], None]
) -> tuple[OnnxContent, list[NDArray[Any]]]:
    """What an ONNX file says, and its arrays.

    Args:
        path: the file.
        allow_more_memory: called with the bytes of the further files before they are read.

    Raises:
        InputError: it is broken, refers to other files than it may, or holds more than its size explains.
    """
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        if metadata.get("format", "").startswith("densenets"):
            raise InputError(
                "it was exported from a checkpoint of densenets: predict and evaluate take it as it is, and "
                "its weights are the checkpoint's"
            )
        return _Reader(path, model, allow_more_memory).read()
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the parser raises anything over damaged files; only the file can be at fault
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"it is not a whole ONNX file ({said:.200})") from error


class _Reader:
    def __init__(self, path: Path, model: onnx.ModelProto, allow_more_memory: Callable[[int], None]) -> None:
        self._folder, self._model = path.parent.resolve(), model
        self._arrays: list[NDArray[Any]] = []
        self._files = self._external_files()
        external = sum(file.stat().st_size for file in self._files.values())
        allow_more_memory(external)
        self._budget = ByteBudget(path.stat().st_size + external)

    def read(self) -> tuple[OnnxContent, list[NDArray[Any]]]:
        graph = self._model.graph
        if not graph.node:
            raise InputError("it is not a whole ONNX file (it has no graph)")
        if graph.sparse_initializer:
            raise InputError("it has sparse tensors; export it with plain ones")
        initializers = [self._tensor(tensor, _text(tensor.name)) for tensor in graph.initializer]
        constants = {tensor.name for tensor in initializers}
        content = OnnxContent(
            nodes=[self._node(node) for node in graph.node],
            initializers=initializers,
            inputs=[_text(value.name) for value in graph.input if value.name not in constants],
            outputs=[_text(value.name) for value in graph.output],
            functions=[_text(function.name) for function in self._model.functions],
        )
        return content, self._arrays

    def _node(self, node: onnx.NodeProto) -> OnnxNode:
        own_domain = [] if node.domain in ("", "ai.onnx") else [_text(node.domain)]
        found = OnnxNode(
            operator=".".join([*own_domain, _text(node.op_type)]),
            name=_text(node.name),
            inputs=[_text(name) for name in node.input],
            outputs=[_text(name) for name in node.output],
        )
        for attribute in node.attribute:
            name, kind = _text(attribute.name), attribute.type
            if kind == AttributeProto.INT:
                found.integers[name] = [attribute.i]
            elif kind == AttributeProto.INTS:
                found.integers[name] = list(attribute.ints)
            elif kind == AttributeProto.FLOAT:
                found.floats[name] = [attribute.f]
            elif kind == AttributeProto.FLOATS:
                found.floats[name] = list(attribute.floats)
            elif kind == AttributeProto.STRING:
                found.texts[name] = attribute.s.decode(errors="replace")
            elif kind == AttributeProto.TENSOR:
                found.tensors[name] = self._tensor(attribute.t, next(iter(found.outputs), ""))
        return found

    def _tensor(self, tensor: TensorProto, name: str) -> OnnxTensor:
        dtype = _TYPES.get(tensor.data_type)
        if dtype is None:
            return OnnxTensor(name=name, array=None)
        shape = tuple(tensor.dims)
        if any(side < 0 for side in shape):
            raise InputError(f"{name:.200} has a negative size")
        self._budget.spend(math.prod(shape) * dtype.itemsize, name)
        if tensor.data_location == TensorProto.EXTERNAL:
            array = self._external(tensor, name, dtype, math.prod(shape)).reshape(shape)
        elif tensor.data_type == TensorProto.BFLOAT16:
            array = (
                np.frombuffer(tensor.raw_data, dtype) if tensor.raw_data else np.array(tensor.int32_data)
            ).reshape(shape)
        else:
            array = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        self._arrays.append(np.array(array, order="C", copy=True))  # writable, and of this file alone
        return OnnxTensor(name=name, array=len(self._arrays) - 1)

    def _external(self, tensor: TensorProto, name: str, dtype: np.dtype[Any], numbers: int) -> NDArray[Any]:
        """The numbers of a tensor that lies in a further file."""
        places = {entry.key: entry.value for entry in tensor.external_data}
        file, offset = self._files[places["location"]], int(places.get("offset", "0"))
        size = numbers * dtype.itemsize
        if int(places.get("length", str(size))) != size or not 0 <= offset <= file.stat().st_size - size:
            raise InputError(f"{name:.200} is not whole in {file.name}, the file of its numbers")
        with file.open("rb") as content:
            content.seek(offset)
            return np.frombuffer(content.read(size), dtype)

    def _external_files(self) -> dict[str, Path]:
        """The further files that the tensors lie in, by the names that the graph has for them."""
        graph = self._model.graph
        attributes = [
            attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")
        ]
        files = {}
        for tensor in (*graph.initializer, *attributes):
            if tensor.data_location == TensorProto.EXTERNAL:
                location = next((own.value for own in tensor.external_data if own.key == "location"), "")
                if location not in files:
                    files[location] = self._external_file(location)
        return files

    def _external_file(self, location: str) -> Path:
        parts = PurePosixPath(location.replace("\\", "/")).parts
        file = self._folder.joinpath(*parts)
        # Windows' drives and streams have a colon.
        if not parts or ".." in parts or parts[0] == "/" or ":" in location or "\0" in location:
            raise InputError(f"its numbers lie in {location!r:.200}, which is not inside of its own folder")
        if not file.is_file():
            raise InputError(f"its numbers lie in {location:.200}, which is missing; put it beside the file")
        if not file.resolve().is_relative_to(self._folder):
            raise InputError(f"its numbers lie in {location:.200}, a link out of its own folder")
        return file


def _text(value: str | bytes) -> str:
    """A name; the parser hands over as bytes what is no UTF-8."""
    if isinstance(value, bytes):
        raise InputError(f"{value!r:.200} is no name")
    return value
