"""The dense block as the paper writes it, x_l = H_l([x_0, ..., x_(l-1)]): the reference of all tests."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def reference_dense_block(x: Tensor, layers: Iterable[nn.Module]) -> Tensor:
    """Run a dense block by its layers: N x C0 x *sides -> N x (C0 + L k) x *sides.

    Every concatenation is stored for the backward pass: memory grows with the square of L.
    """
    features = [x]
    for layer in layers:
        features.append(layer(torch.cat(features, dim=1)))
    return torch.cat(features, dim=1)
