"""Quantisation of a network to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from densenets.engines.session import Array

if TYPE_CHECKING:
    import onnx
    import openvino


def quantize_onnx(model: onnx.ModelProto, images: Sequence[Array]) -> onnx.ModelProto:
    raise NotImplementedError


def quantize_openvino(model: openvino.Model, images: Sequence[Array]) -> openvino.Model:
    raise NotImplementedError
