"""Quantisation of a network to 8 bits after training: weights and activations of its convolutions.

Top-1 accuracy of DenseNet-BC-100-12 on the first 1,000 test images of CIFAR-10 (94.0% in float32), ranges
from 200 training images, on a processor with AVX2 and without VNNI; a tenth of a point is one image:

| engine | what has 8 bits | top-1 |
|---|---|---|
| ONNX Runtime 1.32 | its defaults | 92.9% |
| | convolutions alone, a scale a channel | 92.9% |
| | its defaults, a scale a channel, weights of 7 bits | 93.9% |
| | convolutions and ReLUs, a scale a channel, weights of 7 bits: done here | 94.7% |
| NNCF 3.4 for OpenVINO 2026.4 | its defaults | 94.5% |
| | its defaults, weights of 7 bits: done here | 94.5% |
| | all but concatenations, BN, pooling and classifier | 78.3% |

- Processors without VNNI add products of 8 bits in pairs in 16 bits, where they overflow; those of weights
  of 7 bits do not. That is what the defaults of ONNX Runtime lose.
- Every layer reads the outputs of all layers before it through a BN of its own, and a concatenation in 8
  bits has one scale for all of them. In ONNX Runtime 8 bits have only what convolutions read and write,
  behind that BN and its ReLU, each with a scale of its own; ReLUs too, so that the convolutions around one
  join. BN, pooling, concatenations and the classifier stay float32.
- NNCF gives concatenations 8 bits, and that holds; to leave them out is what breaks, with its correction of
  biases and without, and with weights of 7 bits too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from densenets.engines.session import Array
from densenets.export.program import INPUT
from densenets.export.quiet import quiet

if TYPE_CHECKING:
    import onnx
    import openvino


def quantize_onnx(model: onnx.ModelProto, images: Sequence[Array]) -> onnx.ModelProto:
    """An ONNX model whose convolutions have 8 bits, as pairs of QuantizeLinear and DequantizeLinear (QDQ).

    Args:
        model: in float32; it is not changed.
        images: that the ranges of activations are from, each 1 x C x H x W.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "int8.onnx")
        quantize_static(
            copy,
            path,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return onnx.load(path)


def quantize_openvino(model: openvino.Model, images: Sequence[Array]) -> openvino.Model:
    """An OpenVINO model with 8 bits where NNCF puts them.

    Args:
        model: in float32; it is not changed.
        images: that the ranges of activations are from, each 1 x C x H x W.
    """
    from densenets.engines.openvino_library import one_core, without_telemetry

    with quiet(), one_core(), without_telemetry():
        import nncf

        # Weights of 7 bits in every layer; NNCF's own choice is the first alone.
        parameters = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(images),
            subset_size=len(images),
            advanced_parameters=parameters,
        )


class _Reader:
    """The images as ONNX Runtime asks for them: one after another, then None."""

    def __init__(self, images: Sequence[Array]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        """The next image by the input's name."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image}
