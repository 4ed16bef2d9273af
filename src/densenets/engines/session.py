"""A graph that an engine has loaded: images in, logits out. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Session(Protocol):
    """A graph that an engine has loaded."""

    @property
    def engine(self) -> str:
        """The engine and its version, for people."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts that the file holds beside the graph."""

    @property
    def input_type(self) -> str:
        """The data type of the images: float32, uint8, or another that is none of ours."""

    def run(self, images: Array) -> Array:
        """Images N x C x H x W of the input's type -> N x classes logits, float32."""
