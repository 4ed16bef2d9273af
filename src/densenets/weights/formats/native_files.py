"""Reading of files that need a native parser, in a process of its own with limits of time and memory.

The process can crash, hang or be killed, and hands back nothing but numbers and JSON: nothing that a file
says is run, and what goes wrong with a file is one line.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TypeVar

import safetensors.torch
from torch import Tensor

from densenets.errors import InputError
from densenets.subprocess_jobs import JobFailure, run_job
from densenets.weights.formats.native_content import Format, NativeJob

WORKER = "densenets.weights.formats.native_worker"
SECONDS = 60.0  # that any file may take; a DenseNet's takes one or two
_BYTES_PER_SECOND = 10 * 2**20  # slower than any disk

Content = TypeVar("Content")


def read_natively(
    path: Path, file_format: Format, content: type[Content], *, name: Path | None = None
) -> tuple[Content, list[Tensor]]:
    """What a file says, and its arrays, by the numbers that it is said with.

    Args:
        path: the file.
        file_format: which parser opens it.
        content: the dataclass of what that parser finds.
        name: what people call the file, where it was unpacked from another one.

    Raises:
        InputError: there is no such file, it is broken, refers to other files than it may, would take much
            more memory or time than its size explains, or crashes its parser.
    """
    error_start = f"{name or path} cannot be read"
    size = file_size(path)
    seconds = SECONDS + size / _BYTES_PER_SECOND
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "arrays.safetensors"
        job = NativeJob(path=str(path), format=file_format, arrays=str(arrays), seconds=seconds)
        try:
            answer = run_job(WORKER, dataclasses.asdict(job), content, seconds=seconds)
        except InputError as error:  # names that are no text, which only a file can have
            raise InputError(f"{error_start}: {error}") from error
        if isinstance(answer, JobFailure):
            raise InputError(f"{error_start}: {answer.reason}")
        # In memory, not mapped: the file goes with its folder.
        tensors = safetensors.torch.load(arrays.read_bytes())
    return answer, [tensors[str(number)] for number in range(len(tensors))]


def file_size(path: Path) -> int:
    """Bytes of a file.

    Raises:
        InputError: there is none, or it is a folder or a pipe.
    """
    if not path.exists():
        raise InputError(f"there is no weights file {path}")
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a file; name one")
    return path.stat().st_size
