"""The datasets of an HDF5 file, and the attributes by which Keras says what they are. Needs no PyTorch.

Runs in the process of `native_worker`. Nothing outside of the file is read: HDF5 knows links to other files,
datasets that lie in other files, and views of such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from densenets.errors import InputError
from densenets.weights.formats.native_content import ByteBudget, Hdf5Content, Hdf5Dataset

# The attributes that Keras writes; a long list of names is cut into name0, name1, ...
_ATTRIBUTES = re.compile(r"name|dtype|model_config|(?:layer|weight)_names[0-9]*")
_MOST_LEVELS = 100  # of groups inside each other
_NUMBERS = "fiub"  # kinds of numpy's types: floats, integers without and with sign, truth values


def read_hdf5(path: Path) -> tuple[Hdf5Content, list[NDArray[Any]]]:
    """What an HDF5 file says, and its arrays.

    Raises:
        InputError: it is broken, refers to other files, or holds more than its size explains.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(file, ByteBudget(path.stat().st_size))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # h5py raises anything over damaged files; only the file can be at fault
        said = str(error).strip().partition("\n")[0]
        raise InputError(f"it is not a whole HDF5 file ({said:.200})") from error


def _read(file: h5py.File, budget: ByteBudget) -> tuple[Hdf5Content, list[NDArray[Any]]]:
    datasets: list[Hdf5Dataset] = []
    attributes: dict[str, dict[str, list[str]]] = {}
    arrays: list[NDArray[Any]] = []
    for name, member in _members(file):
        if found := _texts(member):
            attributes[name] = found
        if isinstance(member, h5py.Dataset):
            array = _array(member, name, found.get("dtype") == ["bfloat16"], budget)
            datasets.append(Hdf5Dataset(name=name, array=None if array is None else len(arrays)))
            arrays += [] if array is None else [array]
    return Hdf5Content(datasets=datasets, attributes=attributes), arrays


def _members(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Every group and dataset by its name, the file itself as ""; each group once, by whatever names."""
    waiting: list[tuple[str, Any, int]] = [("", file, 0)]
    seen = set()
    while waiting:
        name, member, level = waiting.pop()
        yield name, member
        if not isinstance(member, h5py.Group):
            continue
        address = h5py.h5o.get_info(member.id).addr
        if address in seen:
            continue
        seen.add(address)
        if level == _MOST_LEVELS:
            raise InputError(f"its groups lie more than {_MOST_LEVELS} inside each other")
        for own in sorted(member, reverse=True):
            inner = f"{name}/{own}" if name else own
            if not isinstance(member.get(own, getlink=True), h5py.HardLink):
                raise InputError(f"{inner:.200} is a link to another place or file, which is not followed")
            waiting.append((inner, member[own], level + 1))


def _texts(member: Any) -> dict[str, list[str]]:
    """The texts among Keras' attributes."""
    found = {}
    for name in member.attrs:
        if _ATTRIBUTES.fullmatch(name):
            values = np.asarray(member.attrs[name]).reshape(-1).tolist()
            if all(isinstance(value, str | bytes) for value in values):
                found[name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return found


def _array(dataset: h5py.Dataset, name: str, is_bfloat16: bool, budget: ByteBudget) -> NDArray[Any] | None:
    """The numbers of a dataset; None where it has none."""
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{name:.200} lies in another file, which is not read; save it whole")
    if dataset.shape is None or (dataset.dtype.kind not in _NUMBERS and not is_bfloat16):
        return None
    size = dataset.dtype.itemsize
    for side in dataset.shape:
        size *= int(side)
    budget.spend(size, name)
    array = np.ascontiguousarray(dataset[()]).reshape(dataset.shape)
    if is_bfloat16 and array.dtype.itemsize == 2:
        # The upper half of a float32's bits, which numpy has no type for.
        bits = array.view(np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise InputError(f"{name:.200} has floats of {array.dtype.itemsize} bytes; save them as float32")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
