"""A network traced by torch.export: the graph that all formats are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from densenets.engines.description import Dynamic
from densenets.export.quiet import quiet

# The input and the output of every exported file.
INPUT, OUTPUT = "images", "logits"


def trace(network: nn.Module, images: Tensor, dynamic: Sequence[Dynamic]) -> ExportedProgram:
    """Trace a network in evaluation mode.

    Args:
        network: images -> logits.
        images: of the type and the size that it is exported for, N x C x *sides.
        dynamic: what may have another size than in `images`: "batch", "size".
    """
    sizes: dict[int, Any] = {}
    if "batch" in dynamic:
        sizes[0] = Dim("batch", min=1)
    if "size" in dynamic:
        # Whose smallest value the tracer finds by itself: the last maps have more than a pixel.
        sizes |= dict.fromkeys(range(2, images.dim()), Dim.DYNAMIC)
    with quiet(), torch.no_grad():
        return torch.export.export(network.eval(), (images,), dynamic_shapes=(sizes,) if sizes else None)
