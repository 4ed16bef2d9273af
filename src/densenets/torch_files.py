"""Files of `torch.save`, read without running code and without more memory than the file itself is large.

`weights_only` keeps code out, but not files that say they are larger than they are.
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
_SPARE = 2**20  # bytes that are nobody's harm
_PICKLES = 4  # a mark, the version, the machine, and what was saved
_ZIP = b"PK\x03\x04"  # how a zip file begins


def read_torch_file(path: Path) -> Any:
    """What a file of `torch.save` holds: tensors on the CPU, numbers, texts and containers of them.

    Raises:
        InputError: there is no such file, it is broken, is packed, or would need code to be run.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    try:
        _check_parts(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are judged by whoever asks
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no weights file {path}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is broken, or holds more than weights; it was not loaded, since that could run code"
        ) from error
    except Exception as error:  # whatever the reader stumbles over; it tells no faults of ours
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is not a whole PyTorch file ({reason:.200})") from error


def check_tensors(tensors: Iterable[tuple[str, Tensor]], path: Path) -> None:
    """Check that tensors of a file can be copied: that they are plain ones with numbers behind them.

    Args:
        tensors: with what each is called.
        path: the file.

    Raises:
        InputError: one is sparse, quantised or without memory, or all together are much larger than the file.
    """
    most = _MOST_COPIES * path.stat().st_size + _SPARE
    for name, value in tensors:
        if value.layout != torch.strided or value.is_quantized or value.is_nested or value.is_meta:
            raise InputError(
                f"{path}: {name:.200} is sparse, quantised or without values; save it as a plain tensor"
            )
        most -= value.numel() * value.element_size()
        if most < 0:
            raise InputError(
                f"{path}: the tensors up to {name:.200} are much larger than the file, which repeats its "
                "values; save clones of them"
            )


def _check_parts(path: Path) -> None:
    """Check, before anything is loaded, that a file says no more than it holds, and makes plain tensors."""
    with path.open("rb") as content:
        if content.read(len(_ZIP)) != _ZIP:  # the older form: a few pickles, then the numbers
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
    """Stands for whatever a pickle makes: it can be made and filled, and does and holds nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Take what a pickle sets."""

    def __setitem__(self, key: object, value: object) -> None:
        """Take what a pickle fills in."""

    def __call__(self, *_: object) -> _Inert:
        return self

    def append(self, value: object) -> None:
        """Take what a pickle adds."""


def _from_listed(*parts: object) -> _Inert:
    """Stands for a container, of what the pickle itself lists alone.

    Of a number, or of a tensor that repeats one value, PyTorch would make as large a one as it says.
    """
    if not all(type(part) in (list, tuple, dict, set, str, bytes) for part in parts):
        raise pickle.UnpicklingError("a container is made of something else than what is listed")
    return _Inert()


# The containers that PyTorch's Unpickler makes.
_CONTAINERS = {"OrderedDict", "Counter", "set", "bytearray", "Size"}
# Of all tensors those that are described by their size and a part of what is stored.
_PLAIN = {
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
}


# Not the one in C, which takes as much memory as a number in the file says.
class _DryRun(pickle._Unpickler):
    """Goes through a pickle without making anything of it."""

    def find_class(self, module: str, name: str) -> object:
        """What stands for a class or function."""
        if name in _CONTAINERS:
            return _from_listed
        if module == "torch._utils" and name not in _PLAIN:
            raise pickle.UnpicklingError(f"{name} makes a tensor that is sparse, quantised or without values")
        return _Inert

    def persistent_load(self, pid: object) -> object:  # noqa: ARG002 - as pickle calls it
        """What stands for the numbers of a tensor."""
        return _Inert()
