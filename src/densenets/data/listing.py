"""What a folder of folders holds, or one line of why that cannot be said. Needs no PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

from densenets.errors import InputError


def subfolders(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted; links to folders elsewhere count, hidden ones don't.

    Raises:
        InputError: there is no such folder, it is a file, or it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and _is_folder(folder, entry)
            )
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(folder: Path, error: OSError) -> InputError:
    """The error for a folder that the system does not list."""
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"there is no folder {folder}; name one by --data.root (of evaluate and report by --root)"
        )
    if isinstance(error, NotADirectoryError):
        return InputError(f"{folder} is a file; a folder of class folders is needed")
    return InputError(f"the folder {folder} cannot be read: {error.strerror}")


def _is_folder(folder: Path, entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_dir()
    # A link may point at itself, which is no folder, or at a folder that it lies in, which is no part of it.
    link = Path(entry)
    return link.is_dir() and not folder.resolve().is_relative_to(link.resolve())
