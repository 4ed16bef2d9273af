"""The ONNX form of a network, in one file: opset 20, which ONNX Runtime and OpenVINO both read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch.export import ExportedProgram

from densenets.engines.session import Array
from densenets.export.int8 import quantize_onnx
from densenets.export.program import INPUT, OUTPUT
from densenets.export.quiet import quiet

_OPSET = 20


@dataclass(frozen=True)
class OnnxDraft:
    """A network as an ONNX model.

    Attributes:
        model: without metadata.
    """

    model: onnx.ModelProto

    def contents(self, metadata: Mapping[str, str]) -> Sequence[bytes]:
        """The .onnx file, with the texts in its metadata_props."""
        described = onnx.ModelProto()
        described.CopyFrom(self.model)
        onnx.helper.set_model_props(described, dict(metadata))
        return [described.SerializeToString()]

    def quantized(self, images: Sequence[Array]) -> OnnxDraft:
        """The same network in 8 bits."""
        return OnnxDraft(quantize_onnx(self.model, images))


def onnx_draft(program: ExportedProgram) -> OnnxDraft:
    """The ONNX form of a traced network."""
    with quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
        )
    assert exported is not None
    model: onnx.ModelProto = exported.model_proto
    model.producer_name, model.doc_string = "densenets", ""
    for node in model.graph.node:
        del node.metadata_props[:]  # names of source files of whoever exported it
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    return OnnxDraft(model)
