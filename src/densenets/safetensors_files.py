"""Reading of safetensors files: nothing in them is run, and what is wrong with one is said in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from densenets.errors import InputError


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Raises:
        InputError: the file is truncated or of another kind.
    """
    with open_safetensors(path) as file, errors_of_reading(path):
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A context with an open file, whose tensors are read when they are asked for."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    with contextlib.ExitStack() as stack:
        with errors_of_reading(path):
            file = stack.enter_context(safe_open(path, framework="pt"))
        yield file


@contextlib.contextmanager
def errors_of_reading(path: Path) -> Iterator[None]:
    """Turn whatever the reader raises over a file into an `InputError`: only the file can be at fault."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is not a whole safetensors file ({reason:.200}); it is truncated or another kind"
        ) from error
