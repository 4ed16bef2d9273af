"""The OpenVINO form of a network, an IR: the graph in an .xml file, the weights in a .bin beside it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.export import ExportedProgram

from densenets.engines.description import SECTION, WEIGHTS_DIGEST
from densenets.engines.openvino_library import openvino
from densenets.engines.session import Array
from densenets.export.int8 import quantize_openvino
from densenets.export.program import INPUT, OUTPUT
from densenets.export.quiet import quiet


@dataclass(frozen=True)
class OpenVinoDraft:
    """A network as an OpenVINO model.

    Attributes:
        model: whose rt_info `contents` writes to.
    """

    model: openvino.Model

    def contents(self, metadata: Mapping[str, str]) -> Sequence[bytes]:
        """The .xml and the .bin file; texts and the digest of the .bin in rt_info; weights stay float32."""
        for name, text in metadata.items():
            self.model.set_rt_info(text, [SECTION, name])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network.xml")
            openvino.save_model(self.model, path, compress_to_fp16=False)
            weights = path.with_suffix(".bin").read_bytes()
            self.model.set_rt_info(hashlib.sha256(weights).hexdigest(), [SECTION, WEIGHTS_DIGEST])
            openvino.save_model(self.model, path, compress_to_fp16=False)
            return [path.read_bytes(), weights]

    def quantized(self, images: Sequence[Array]) -> OpenVinoDraft:
        """The same network in 8 bits."""
        return OpenVinoDraft(quantize_openvino(self.model, images))


def openvino_draft(program: ExportedProgram, input_shape: Sequence[int]) -> OpenVinoDraft:
    """The OpenVINO form of a traced network.

    Args:
        program: the network.
        input_shape: of the images; -1 for a size that may change.
    """
    with quiet():
        model = openvino.convert_model(program)
    model.input(0).get_tensor().set_names({INPUT})
    model.output(0).get_tensor().set_names({OUTPUT})
    # Of a program with one size that may change, the conversion forgets all sizes.
    model.reshape(list(input_shape))
    return OpenVinoDraft(model)
