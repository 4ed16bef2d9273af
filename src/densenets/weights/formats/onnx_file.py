"""Reading of the DenseNets in ONNX files, as PyTorch's and other programs' exports write them."""

from __future__ import annotations

from pathlib import Path

from densenets.errors import InputError
from densenets.extras import require
from densenets.weights.formats.file_modules import NetworkFile
from densenets.weights.formats.maps_order import the_order
from densenets.weights.formats.native_content import OnnxContent
from densenets.weights.formats.native_files import read_natively
from densenets.weights.formats.onnx_layers import modules
from densenets.weights.formats.onnx_walk import Walk


def read_onnx(path: Path) -> NetworkFile:
    """Read the layers of an ONNX file, in the order of their computation.

    A norm that an export folded into the convolution before it is not there; that convolution has a bias, or
    none if it would be 0.

    Raises:
        InputError: onnx is not installed; there is no such file, it is broken, or its numbers lie in files
            outside of its folder; it is quantised; or its graph computes another function than a DenseNet.
    """
    require("onnx", f"reading {path}")
    content, arrays = read_natively(path, "onnx", OnnxContent)
    walk = Walk(content, arrays)
    try:
        walk.run()
        found = modules(walk.layers)
        order = the_order(walk.orders)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    used = {key for module in found for key in module.keys.values()}
    unused = {
        name: walk.folded.get(name, "of no layer: a number of the graph itself")
        for name in walk.tensor_names
        if name not in used
    }
    return NetworkFile(
        path=path,
        program="ONNX",
        modules=found,
        unused=unused,
        in_order=True,
        new_maps=order,
        normalizes=walk.normalizes,
        notes=tuple(dict.fromkeys(walk.notes)),
    )
