"""The layers of a file of weights, with PyTorch's names and layouts, whatever program wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

Kind = Literal["convolution", "norm", "linear"]
NewMaps = Literal["first", "last"]

ROLES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, kw_only=True)
class FileModule:
    """A layer of a file.

    Attributes:
        name: the file's name of it.
        kind: a convolution, a batch norm or a linear layer.
        tensors: a role of `ROLES` -> tensor, in PyTorch's layout: O x I x *kernel, O x I, or a vector.
        keys: a role -> the file's key of the tensor.
        epsilon: of a norm, where the file says it; None where it does not.
    """

    name: str
    kind: Kind
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    epsilon: float | None = None

    @property
    def weight(self) -> Tensor:
        """Of a convolution or a linear layer, which always have one."""
        return self.tensors["weight"]

    @property
    def shown(self) -> str:
        """The layer as it is named in errors, by the key of its weight."""
        return f"{self.keys.get('weight', self.name):.200}"

    @property
    def channels(self) -> int:
        """Channels that the layer reads."""
        return self.tensors["running_mean"].shape[0] if self.kind == "norm" else self.weight.shape[1]


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """All that a file says of a network.

    Attributes:
        path: the file.
        program: what wrote it, in a word or two for people, such as "PyTorch", "Keras", "ONNX".
        modules: the layers, in the file's order.
        unused: keys of tensors that are no weights of the network, as far as is known -> what they are.
        others: keys of tensors of which that is not known.
        in_order: the order of the layers is that of the computation, as in a graph, and not only of a file.
        new_maps: whether a layer's new maps stand before or behind the older ones, where the file says it.
        normalizes: the file's graph normalises its input, which is left out: it belongs to the preprocessing.
        other_function: how it shows that the network computes something else than a DenseNet, whatever its
            layers are; "" if it does not.
        metadata: of a safetensors file; else empty.
        notes: what the reader has to say of the file, for people.
    """

    path: Path
    program: str
    modules: tuple[FileModule, ...]
    unused: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    in_order: bool = False
    new_maps: NewMaps | None = None
    normalizes: bool = False
    other_function: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
