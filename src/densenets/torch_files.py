"""Safe reading of `torch.save` files: no code is run, and no more memory is taken than the file is large.

`weights_only` prevents code, but not files that claim to be larger than they are.
"""

from __future__ import annotations

import io
import mmap
import pickle
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenets.errors import InputError

_MOST_COPIES = 4  # of each byte of a file: tensors may share their memory, as tied weights do
_ALLOWANCE = 2**20  # bytes that any file may have beyond that
_PICKLES = 4  # magic number, version, system information, and the saved object
_ZIP = b"PK\x03\x04"  # how a zip file begins


def read_torch_file(path: Path) -> Any:
    """Load a file of `torch.save`: tensors on the CPU, numbers, texts and containers of them.

    Raises:
        InputError: there is no such file, it is broken, is compressed, or would need code to be run.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    try:
        _check_content(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual tensors, which `check_tensors` judges
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no weights file {path}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is broken, or holds more than weights; it was not loaded, since that could run code"
        ) from error
    except Exception as error:  # readers raise anything over damaged files; only the file can be at fault
        # That of a failed look-up is the number of a byte, which says nothing to people.
        said = "" if isinstance(error, LookupError) else str(error).strip()
        reason = f" ({said.splitlines()[0]:.200})" if said else ""
        raise InputError(f"{path} is not a whole PyTorch file{reason}") from error


def check_tensors(tensors: Iterable[tuple[str, Tensor]], path: Path) -> None:
    """Check that tensors of a file can be copied: they are dense, and in total not much larger than the file.

    Args:
        tensors: name and tensor of each.
        path: the file.

    Raises:
        InputError: one is sparse, quantised or without memory, or all together are much larger than the file.
    """
    bytes_left = _MOST_COPIES * path.stat().st_size + _ALLOWANCE
    for name, value in tensors:
        if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta:
            raise InputError(
                f"{path}: {name:.200} is sparse, quantised or without values; save it as a plain tensor"
            )
        bytes_left -= value.numel() * value.element_size()
        if bytes_left < 0:
            raise InputError(
                f"{path}: the tensors up to {name:.200} are much larger than the file, which repeats its "
                "values; save clones of them"
            )


def _check_content(path: Path) -> None:
    """Check, before loading, that a file claims no more than it holds, and has dense tensors only."""
    with path.open("rb") as content:
        if content.read(len(_ZIP)) != _ZIP:  # the older format: a few pickles, then the numbers
            # Reading takes memory for as many bytes as are asked for; a mapping has no more than the file.
            with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                for _ in range(_PICKLES):
                    _DryRun(mapped, encoding="utf-8").load()
            return
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InputError(f"{path} is packed, as no file of torch.save is; save it again with torch.save")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is not a whole PyTorch file (its parts are larger than the file)")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                _DryRun(io.BytesIO(file.read(entry)), encoding="utf-8").load()


class _Inert:
    """A stand-in for any object of a pickle: it can be constructed and filled, and does and holds nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore the item."""

    def __call__(self, *_: object) -> _Inert:
        return self

    def append(self, value: object) -> None:
        """Ignore the value."""


def _inert_container(*arguments: object) -> _Inert:
    """A stand-in for a container, which may only be made of values that the pickle itself lists.

    From a number, or a tensor that repeats one value, PyTorch would make one as large as the file claims.
    """
    if not all(type(argument) in (list, tuple, dict, set, str, bytes) for argument in arguments):
        raise pickle.UnpicklingError("a container is made of something else than what is listed")
    return _Inert()


# The containers that PyTorch's Unpickler makes.
_CONTAINERS = {"OrderedDict", "Counter", "set", "bytearray", "Size"}
# PyTorch's functions that make a dense tensor from its size and a part of the stored bytes.
_DENSE = {
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
}


# Not the unpickler in C, which allocates as much memory as a number in the file says.
class _DryRun(pickle._Unpickler):
    """An unpickler that goes through a pickle without constructing its objects."""

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a class or function."""
        if name in _CONTAINERS:
            return _inert_container
        if module == "torch._utils" and name not in _DENSE:
            raise pickle.UnpicklingError(f"{name} makes a tensor that is sparse, quantised or without values")
        return _Inert

    def persistent_load(self, pid: object) -> object:  # noqa: ARG002 - as pickle calls it
        """The stand-in for a tensor's storage."""
        return _Inert()
