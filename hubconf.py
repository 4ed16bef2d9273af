"""Entry points of torch.hub: `torch.hub.load("OWNER/densenets", "densenet121", weights="torchvision")`.

Published weights are fetched, as torch.hub fetches this code; with `download=False` they have to be here.
"""

from __future__ import annotations

import importlib.util as _importlib_util
import sys as _sys
from functools import partial as _partial
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from densenets.models.network import Network

dependencies = ["msgspec", "numpy", "rich", "safetensors", "torch"]

# An installed package goes first, which has the native kernels. A mere folder of the name, such as a clone,
# has no origin.
_spec = _importlib_util.find_spec("densenets")
if _spec is None or _spec.origin is None:
    _sys.path.append(str(_Path(__file__).resolve().parent / "src"))


def create_model(
    name: str,
    *,
    weights: str | None = None,
    download: bool = True,
    num_classes: int | None = None,
    in_channels: int | None = None,
    spatial_dims: int | None = None,
    dropout: float | None = None,
) -> Network:
    """A network by any name of `densenets models`, in training mode as PyTorch makes modules.

    Args:
        name: such as "densenet121", "densenet-bc-100-12" or "resnet50".
        weights: published weights by their name, such as "torchvision", or a file of any program; None
            initialises freshly.
        download: fetch published weights that are not on this machine.
        num_classes: other classes than the weights' give a fresh classifier.
        in_channels: other channels than the weights' adapt the first convolution.
        spatial_dims: 3 inflates kernels for volumes.
        dropout: probability after every convolution but the first.
    """
    from densenets.weights.pretrained import create_model as build

    return build(
        name,
        weights=weights,
        download=download,
        num_classes=num_classes,
        in_channels=in_channels,
        spatial_dims=spatial_dims,
        dropout=dropout,
    )


def _named(name: str) -> _partial[Network]:
    """`create_model` of one name."""
    entry = _partial(create_model, name)
    entry.__doc__ = f"{name}, with the arguments of `create_model`."
    return entry


densenet121 = _named("densenet121")
densenet161 = _named("densenet161")
densenet169 = _named("densenet169")
densenet201 = _named("densenet201")
densenet264 = _named("densenet264")
