"""Safe reading of `torch.save` files: no code is run, and no more memory is taken than the file is large.

`weights_only` prevents code, but not files that claim to be larger than they are.
"""

from __future__ import annotations

import contextlib
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
from torch.serialization import safe_globals

from densenets.errors import InputError
from densenets.pickles import DryRun, inert_pickle_module, stand_ins

_MOST_COPIES = 4  # of each byte of a file: tensors may share their memory, as tied weights do
_ALLOWANCE = 2**20  # bytes that any file may have beyond that
_PICKLES = 4  # magic number, version, system information, and the saved object
# Parts of entries' names in archives that are no files of torch.save.
_PROGRAMS = {"/code/__torch__": "TorchScript", "/archive_format": "torch.export or AOTInductor"}
_ZIP = b"PK\x03\x04"  # how a zip file begins


def read_torch_file(path: Path, *, objects: bool = False) -> Any:
    """Load a file of `torch.save`: tensors on the CPU, numbers, texts and containers of them.

    Args:
        path: the file.
        objects: take objects of any class as a `StandIn`, which holds their attributes; no class is imported.

    Raises:
        InputError: there is no such file, it is broken, is compressed, or would need code to be run.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    try:
        runs = _check_content(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual tensors, which `check_tensors` judges
            return _load(path, runs if objects else [])
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


def _load(path: Path, runs: list[DryRun]) -> Any:
    try:
        classes = {name: stand_in for run in runs for name, stand_in in stand_ins(run).items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if any(run.has_sources for run in runs):
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=inert_pickle_module(classes)
        )
    with contextlib.ExitStack() as stack:
        if classes:
            stack.enter_context(safe_globals([(stand_in, name) for name, stand_in in classes.items()]))
        return torch.load(path, map_location="cpu", weights_only=True)


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


def _check_content(path: Path) -> list[DryRun]:
    """Check, before loading, that a file claims no more than it holds, and has dense tensors only.

    Returns:
        the dry runs of its pickles.
    """
    runs = []
    with path.open("rb") as content:
        if content.read(len(_ZIP)) != _ZIP:  # the older format: a few pickles, then the numbers
            # Reading takes memory for as many bytes as are asked for; a mapping has no more than the file.
            with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                for _ in range(_PICKLES):
                    runs.append(DryRun(mapped))
                    runs[-1].load()
            return runs
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        for mark, program in _PROGRAMS.items():
            if any(mark in f"/{entry.filename}" for entry in entries):
                raise InputError(
                    f"{path} is a program of {program}, which holds code; save the network's state_dict() "
                    "with torch.save"
                )
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InputError(f"{path} is packed, as no file of torch.save is; save it again with torch.save")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is not a whole PyTorch file (its parts are larger than the file)")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                runs.append(DryRun(io.BytesIO(file.read(entry))))
                runs[-1].load()
    return runs
