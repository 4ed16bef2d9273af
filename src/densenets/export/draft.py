"""A network in the form of an engine, before it is a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from densenets.engines.session import Array


class Draft(Protocol):
    """A network in the form of an engine, before it is a file."""

    def contents(self, metadata: Mapping[str, str]) -> Sequence[bytes]:
        """The file's content, or of an .xml file and its .bin, with texts beside the graph."""


@runtime_checkable
class QuantizableDraft(Draft, Protocol):
    """A network whose convolutions can compute in 8 bits."""

    def quantized(self, images: Sequence[Array]) -> Draft:
        """The same network in 8 bits, the ranges of its activations from these images, each 1 x C x H x W."""
