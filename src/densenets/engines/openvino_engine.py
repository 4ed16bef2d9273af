"""OpenVINO IR files in OpenVINO, on the CPU. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from densenets.engines.openvino_library import core, openvino
from densenets.engines.session import Array
from densenets.errors import InputError

_SECTION = "densenets"  # of rt_info
_TYPES = {"f32": "float32", "u8": "uint8"}

Precision = Literal["f32", "bf16"]


class OpenVinoSession:
    """An IR in OpenVINO.

    Args:
        contents: of the .xml file and of its .bin.
        threads: that it computes with.
        precision: of what the file holds in float32. OpenVINO's own choice is bfloat16 where the processor
            has it, which would not be the network that was verified.

    Raises:
        Exception: of OpenVINO, where the content is no model that it runs.
        InputError: it has not one input and one output.
    """

    engine = f"openvino {openvino.__version__.partition('-')[0]}"

    def __init__(self, contents: Sequence[bytes], threads: int, precision: Precision = "f32") -> None:
        model, weights = contents
        self._model = core().read_model(model=model, weights=weights)
        if len(self._model.inputs) != 1 or len(self._model.outputs) != 1:
            raise InputError(
                f"it has {len(self._model.inputs)} inputs and {len(self._model.outputs)} outputs; one of "
                "each is needed"
            )
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._request = core().compile_model(self._model, "CPU", settings).create_infer_request()

    @property
    def metadata(self) -> Mapping[str, str]:
        """What stands in rt_info below `densenets`."""
        if not self._model.has_rt_info(_SECTION):
            return {}
        section = self._model.rt_info[_SECTION]
        return {str(name): str(value.astype(str)) for name, value in section.items()}

    @property
    def input_type(self) -> str:
        """The data type of the images."""
        name = self._model.input(0).get_element_type().get_type_name()
        return _TYPES.get(name, name)

    def run(self, images: Array) -> Array:
        """Images N x C x H x W -> N x classes logits."""
        # Copied: the next run computes into the same memory.
        return self._request.infer([images], share_inputs=True)[0].copy()
