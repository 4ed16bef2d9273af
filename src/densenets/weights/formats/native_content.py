"""What the process that opens files with native parsers is asked, and what it answers. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from densenets.errors import InputError

Format = Literal["hdf5", "onnx"]

_MOST_COPIES = 4  # of each byte of a file: compressed weights unpack to little more, and some may be shared
_ALLOWANCE = 2**20  # bytes that any file may have beyond that


@dataclass(frozen=True, kw_only=True)
class NativeJob:
    """A file to be opened.

    Attributes:
        path: the file.
        format: which parser opens it.
        arrays: the safetensors file that its arrays are written to, by their numbers.
        seconds: processor time that it may take.
    """

    path: str
    format: Format
    arrays: str
    seconds: float


class ByteBudget:
    """Bytes that the arrays of a file may have in total, so that a small file does not become a large one.

    Args:
        file_size: bytes of the file, and of those that it refers to.
    """

    def __init__(self, file_size: int) -> None:
        self._left = _MOST_COPIES * file_size + _ALLOWANCE

    def spend(self, size: int, name: str) -> None:
        """Count an array before it is made.

        Raises:
            InputError: it and those before are much larger than the file.
        """
        self._left -= size
        if self._left < 0:
            raise InputError(f"its arrays up to {name:.200} are much larger than the file itself")


@dataclass(frozen=True, kw_only=True)
class Hdf5Dataset:
    """A dataset.

    Attributes:
        name: with the names of the groups that it lies in, and "/" between them.
        array: number of its array; None where it is none of numbers.
    """

    name: str
    array: int | None


@dataclass(frozen=True, kw_only=True)
class Hdf5Content:
    """What an HDF5 file says.

    Attributes:
        datasets: in the order of their names.
        attributes: a group's name -> those of its attributes that are texts, each as a list.
    """

    datasets: list[Hdf5Dataset]
    attributes: dict[str, dict[str, list[str]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OnnxTensor:
    """A constant tensor of a graph.

    Attributes:
        name: the graph's.
        array: number of its array; None where it is of a type that no weights here have, such as text.
    """

    name: str
    array: int | None


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """A node of a graph.

    Attributes:
        operator: its type, such as "Conv", with the domain in front where it is not ONNX' own.
        name: may be empty.
        inputs: names of what it reads; "" for an optional input that is not there.
        outputs: names of what it computes.
        integers: attributes of one or several integers.
        floats: attributes of one or several floats.
        texts: attributes that are texts.
        tensors: attributes that are tensors.
    """

    operator: str
    name: str
    inputs: list[str]
    outputs: list[str]
    integers: dict[str, list[int]] = field(default_factory=dict)
    floats: dict[str, list[float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, OnnxTensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OnnxContent:
    """What an ONNX file says.

    Attributes:
        nodes: in the file's order, which is one of computation.
        initializers: the constant tensors.
        inputs: names of what the graph reads, without constants.
        outputs: names of what it gives.
        functions: names of operators that the file defines itself.
    """

    nodes: list[OnnxNode]
    initializers: list[OnnxTensor]
    inputs: list[str]
    outputs: list[str]
    functions: list[str]
