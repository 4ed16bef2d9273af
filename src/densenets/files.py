"""Reading and atomic writing of files, and a lock on a run's folder."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from densenets.errors import InputError
from densenets.schema import parse_json

MOST_TEXT = 256 * 2**20  # bytes of a text file; the largest is a confusion matrix, 9 bytes a pair of classes

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_NOT_ALLOWED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOENT,
}


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a temporary file beside the path, sync it to the disk, and rename it into place.

    A reader sees the whole old file or the whole new one; so does the next start after a power cut.

    Raises:
        InputError: the disk is full, or the folder cannot be written; the old file is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk (full, read-only, not allowed) into an `InputError` that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise InputError(
                f"the disk is full: could not write {path}; free some space there "
                "(what was saved before is untouched)"
            ) from error
        if error.errno in _NOT_ALLOWED:
            raise InputError(
                f"cannot write {path}: {error.strerror}; name a folder that can be written"
            ) from error
        raise
    except RuntimeError as error:
        # torch.save hides the system's error behind its zip writer's; the cause tells which it was.
        if _is_writer_failure(error):
            raise InputError(
                f"could not write {path}: the disk is full or was taken away; free some space there "
                "(what was saved before is untouched)"
            ) from error
        raise


def _is_writer_failure(error: RuntimeError) -> bool:
    text = str(error)
    return "PytorchStreamWriter failed" in text or "unexpected pos" in text


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file's whole content, atomically."""
    write_atomically(path, lambda file: file.write(content))


def json_text(value: object, *, indent: int | None = None) -> str:
    """A value as standard JSON in ASCII: numbers that are not finite are null.

    A name's bytes that are no UTF-8 become lone surrogates, from which Python gets the bytes back.
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, atomically; numbers that are not finite are null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    # UTF-8 cannot hold lone surrogates; their backslash form is JSON's own.
    write_bytes(path, f"{text}\n".encode(errors="backslashreplace"))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    r"""Write rows that have the same names as a table with a header, atomically.

    It is UTF-8; a name's byte that is none stands as `\udcXX`.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))


def read_text(path: Path) -> str:
    """A text file's content, UTF-8 with a byte order mark or without.

    Raises:
        InputError: there is no such file, it is none of text, or too large to be taken into memory.
    """
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as text ({error}); UTF-8 is needed") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: there is no such file, or it is not JSON.
    """
    return parse_json(_read_bytes(path), f"{path} is not readable as JSON; it is broken or not ours")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a half-written last line, as after a power cut, is left out.

    Raises:
        InputError: another line is broken or no object.
    """
    # Not splitlines(), which takes other characters for ends of lines too.
    texts = read_text(path).rstrip("\0\n").split("\n") if path.exists() else []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        error_start = f"line {number} of {path} is not readable as JSON; it is broken or not ours"
        try:
            line = parse_json(text, error_start, non_finite=True)
        except InputError:
            if number == len(texts):
                break
            raise
        if not isinstance(line, dict):
            raise InputError(error_start)
        lines.append(line)
    return lines


def _read_bytes(path: Path) -> bytes:
    try:
        # A pipe or a device would be waited for, or read without end.
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file; name one")
        with path.open("rb") as file:
            content = file.read(MOST_TEXT + 1)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MOST_TEXT:
        raise InputError(f"{path} is larger than {MOST_TEXT >> 20} MiB, which no file of this kind is")
    return content


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the system releases the lock however the process ends.

    Raises:
        InputError: it is a file, another process has locked it, or its file system has no locks.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder with --out")
    # PyTorch itself needs filelock, so it is no dependency of its own.
    from filelock import FileLock, SoftFileLock, Timeout

    path = folder / ".lock"
    lock = FileLock(path)
    try:
        with disk_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
    except Timeout as error:
        if not isinstance(lock, SoftFileLock):
            raise InputError(
                f"{folder} is in use by another process; wait for it, or name another folder with --out"
            ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        # Where the system has no locks filelock makes a file, which a killed process would leave behind.
        if isinstance(lock, SoftFileLock) or not lock.is_locked:
            raise InputError(f"the file system of {folder} has no locks; name a folder elsewhere with --out")
        yield
    finally:
        lock.release()


def _finite(value: object) -> object:
    """The same value with None for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _sync_folder(folder: Path) -> None:
    # The rename itself lies in the folder: without this a power cut may bring the old name back.
    if sys.platform == "win32":
        return  # which does not open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
