"""Listings of folders: the folders in one, and the picture files below one. Needs no PyTorch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from densenets.data.picture_formats import picture_suffixes
from densenets.errors import InputError
from densenets.names import tell

# What operating systems put beside pictures, in small letters; hidden files are skipped anyway.
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
_MOST_SUFFIXES = 8  # that one line names

FolderId = tuple[int, int]  # device and inode: one folder, whatever the links that lead to it


@dataclass(frozen=True)
class PictureFiles:
    """The picture files below a folder, and counts of its other files.

    Attributes:
        pictures: files with the suffix of a picture format, in order.
        left_out: the number of other files by suffix, such as ".heic", or by why they cannot be read.
    """

    pictures: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; links to folders elsewhere count, hidden ones don't.

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


def find_pictures(folder: Path, *, excluded: frozenset[FolderId] = frozenset()) -> PictureFiles:
    """Find every picture below a folder, by suffix; each folder's files first, then its folders, sorted.

    Links are followed, but each folder is entered once, by its own name if it has one below `folder`; and
    none that `folder` lies in. Only regular files count: no pipe, socket or device, which could keep their
    reader waiting for ever. Hidden files and folders are skipped.

    Args:
        folder: where to search.
        excluded: folders that no link is followed into, such as those of other classes.

    Raises:
        InputError: the folder is not there, or cannot be listed.
    """
    files = PictureFiles()
    for entry, problem in _walk_files(folder, excluded):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - there may be millions
        if problem:
            files.left_out[problem] += 1
        elif suffix in picture_suffixes():
            files.pictures.append(Path(entry.path))
        elif entry.name.lower() not in _SYSTEM_FILES:
            files.left_out[suffix or "without an ending"] += 1
    return files


def unreadable(folder: Path, error: OSError) -> InputError:
    """The error for a folder that the operating system does not list."""
    if isinstance(error, FileNotFoundError):
        return InputError(
            f"there is no folder {folder}; name one by --data.root (of evaluate and report by --root)"
        )
    if isinstance(error, NotADirectoryError):
        return InputError(f"{folder} is a file; a folder of class folders is needed")
    return InputError(f"the folder {folder} cannot be read: {error.strerror}")


def folder_id(folder: str | Path) -> FolderId:
    """Device and inode of a folder: the same whatever path leads to it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise unreadable(Path(folder), error) from error
    return status.st_dev, status.st_ino


def print_left_out(folder: Path, left_out: Counter[str]) -> None:
    """Print on standard error, in one line, how many files of a folder are left out, if any are."""
    if not left_out:
        return
    by_count = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    counts = [f"{count} {suffix}" for suffix, count in by_count[:_MOST_SUFFIXES]]
    if len(by_count) > _MOST_SUFFIXES:
        counts.append(f"{sum(count for _, count in by_count[_MOST_SUFFIXES:])} of other kinds")
    total = left_out.total()
    noun = "file that is no picture" if total == 1 else "files that are no pictures"
    tell(f"{folder}: left out {total} {noun} that can be read: {', '.join(counts)}")


def _walk_files(folder: Path, excluded: frozenset[FolderId]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield every file below a folder with the reason why it cannot be read, "" if there is none."""
    entered: set[FolderId] = set()  # folders that no link is followed into any more
    waiting: list[tuple[os.DirEntry[str] | None, bool]] = [(None, True)]
    while waiting:
        parent, has_own_name = waiting.pop()
        try:
            entries = _visible_entries(parent.path if parent else folder)
        except OSError as error:
            if parent is None:
                raise unreadable(folder, error) from error
            yield parent, "folders that cannot be listed"
            continue
        folders = []
        for entry in entries:
            # Of a link to itself DirEntry's own answers are errors.
            target = Path(entry.path) if entry.is_symlink() else entry
            if target.is_dir():
                own = has_own_name and not entry.is_symlink()
                if not own:
                    # Links are rare, so the folders they may not lead to are listed at the first of them.
                    entered = entered or {*excluded, *_ids_without_links(folder)}
                    if folder_id(entry.path) in entered:
                        continue
                    entered.add(folder_id(entry.path))
                folders.append((entry, own))
            elif target.is_file():
                yield entry, ""
            else:
                yield entry, "links to no file" if entry.is_symlink() else "pipes or devices"
        waiting += reversed(folders)


def _visible_entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _ids_without_links(folder: Path) -> Iterator[FolderId]:
    """Yield the ids of a folder, its parents, and the folders below it that are reached without a link."""
    yield from (folder_id(parent) for parent in (folder, *folder.resolve().parents))
    for parent, folders, _ in os.walk(folder):
        paths = {name: Path(parent, name) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in paths.items() if not path.is_symlink()]
        yield from (folder_id(paths[name]) for name in folders)


def _is_folder(folder: Path, entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_dir()
    # A link may point at itself, which is no folder, or at a folder that it lies in, which is no part of it.
    link = Path(entry)
    return link.is_dir() and not folder.resolve().is_relative_to(link.resolve())
