"""Quantisation of a network to 8 bits after training: weights and activations of its convolutions.

Seen with DenseNet-BC-100-12 of CIFAR-10, first 1,000 test images, 94.0% in float32, on a processor with AVX2 alone:

| engine | what | top-1 |
|---|---|---|
| ONNX Runtime 1.32 | its defaults | 92.9% |
| | convolutions, a scale a channel | 92.9% |
| | all operations, a scale a channel, weights of 7 bits | 93.9% |
| | convolutions and ReLUs, a scale a channel, weights of 7 bits: what is done here | 94.7% |
| NNCF 3.4, OpenVINO 2026.4 | its defaults, with weights of 7 bits: what is done here | 94.5% |
| | convolutions alone | 78.4% |

- A layer's output is read through a BN of its own by every layer behind it. Where a concatenation computes in 8 bits,
  all that it joins has one scale, and small outputs lose most of their 256 steps; ONNX Runtime is told to quantise
  what convolutions read, behind BN and ReLU, where each has a scale of its own, and the ReLU between two
  convolutions, so that they join. BN, pooling, concatenations and the classifier stay float32.
- Products of 8 bits are added in pairs in 16 bits by processors without VNNI, where they overflow; weights of 7
  bits can't. The file is then the same on every machine.
- NNCF quantises what is concatenated, with one scale a concatenation. To leave concatenations, BN and pooling
  out is what breaks in OpenVINO, with and without the correction of biases.
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
    with quiet():
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
