"""What a folder of folders holds, or one line of why that cannot be said. Needs no PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

from densenets.errors import InputError


def subfolders(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted; links to folders count, hidden ones don't.

    Raises:
        InputError: there is no such folder, it is a file, or it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)
            )
    except FileNotFoundError as error:
        raise InputError(
            f"there is no folder {folder}; name one by --data.root (of evaluate and report by --root)"
        ) from error
    except NotADirectoryError as error:
        raise InputError(f"{folder} is a file; a folder of class folders is needed") from error
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link may point at itself, which is no folder and no reason to stop.
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()
