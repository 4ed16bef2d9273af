"""Files of `torch.save`, read without running code and without more memory than the file itself is large.

`weights_only` keeps code out, but not files that say they are larger than they are.
"""

from __future__ import annotations

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
_ZIP = b"PK\x03\x04"  # how a zip file begins


def read_torch_file(path: Path) -> Any:
    """What a file of `torch.save` holds: tensors on the CPU, numbers, texts and containers of them.

    Raises:
        InputError: there is no such file, it is broken, is packed, or would need code to be run.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    try:
        _check_sizes(path)
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


def _check_sizes(path: Path) -> None:
    """Check that what is in a file is not larger than the file."""
    with path.open("rb") as content:
        if content.read(len(_ZIP)) != _ZIP:  # the older form, which is not packed
            return
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InputError(f"{path} is packed, as no file of torch.save is; save it again with torch.save")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise InputError(f"{path} is not a whole PyTorch file (its parts are larger than the file)")
