"""ONNX files in ONNX Runtime, on the CPU. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
import onnxruntime

from densenets.engines.session import Array
from densenets.errors import InputError

_ERRORS_ONLY = 3  # log severity: a warning of the runtime is nothing that a user can mend
_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class OnnxRuntimeSession:
    """An ONNX model in ONNX Runtime.

    Args:
        content: of the file.
        threads: that it computes with.

    Raises:
        Exception: of the runtime, where the content is no model that it runs.
        InputError: its weights lie in other files, or it has not one input and one output.
    """

    engine = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, content: bytes, threads: int) -> None:
        if any(
            tensor.data_location == onnx.TensorProto.EXTERNAL
            for tensor in _tensors(onnx.load_from_string(content).graph)
        ):
            raise InputError("its weights lie in other files; one file is needed")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise InputError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one of each is needed")
        self._input = inputs[0]

    @property
    def metadata(self) -> Mapping[str, str]:
        """metadata_props."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def input_type(self) -> str:
        """The data type of the images."""
        return _TYPES.get(self._input.type, self._input.type)

    def run(self, images: Array) -> Array:
        """Images N x C x H x W -> N x classes logits."""
        (logits,) = self._session.run(None, {self._input.name: images})
        return logits


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All stored tensors of a graph and of those inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)
