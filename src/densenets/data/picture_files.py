"""Which files below a folder are pictures, and which are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from densenets.data.formats import picture_suffixes
from densenets.data.listing import unreadable
from densenets.names import tell

# What systems put beside pictures, in small letters; what is hidden is passed by anyway.
_OF_THE_SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
_MOST_KINDS = 8  # that one line names

Identity = tuple[int, int]  # device and inode: one folder, whatever the links that lead to it


@dataclass(frozen=True)
class PictureFiles:
    """What lies below a folder.

    Attributes:
        pictures: files whose ending is a picture's, in order.
        left_out: how much else there is of each kind, such as ".heic".
    """

    pictures: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_pictures(folder: Path, *, beside: frozenset[Identity] = frozenset()) -> PictureFiles:
    """Every picture below a folder, by its ending; each folder's files first, then its folders, sorted.

    Links are followed, but each folder is entered once, by its own name if it has one below `folder`; and
    none that `folder` lies in. Only regular files count: no pipe, socket or device, which could keep their
    reader waiting for ever. Hidden files and folders are passed by.

    Args:
        folder: where to look.
        beside: folders that no link leads into, such as those of other classes.

    Raises:
        InputError: the folder is not there, or cannot be listed.
    """
    found = PictureFiles()
    for entry, problem in _entries(folder, beside):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - there may be millions
        if problem:
            found.left_out[problem] += 1
        elif suffix in picture_suffixes():
            found.pictures.append(Path(entry.path))
        elif entry.name.lower() not in _OF_THE_SYSTEM:
            found.left_out[suffix or "without an ending"] += 1
    return found


def identity(folder: str | Path) -> Identity:
    """What tells a folder from all others, whatever name it is reached by.

    Raises:
        InputError: it cannot be read.
    """
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise unreadable(Path(folder), error) from error
    return status.st_dev, status.st_ino


def tell_left_out(folder: Path, left_out: Counter[str]) -> None:
    """Say on standard error, in one line, how many files of a folder are left out, if any are."""
    if not left_out:
        return
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {kind}" for kind, count in kinds[:_MOST_KINDS]]
    if len(kinds) > _MOST_KINDS:
        named.append(f"{sum(count for _, count in kinds[_MOST_KINDS:])} of other kinds")
    count = left_out.total()
    what = "file that is no picture" if count == 1 else "files that are no pictures"
    tell(f"{folder}: left out {count} {what} that can be read: {', '.join(named)}")


def _entries(folder: Path, beside: frozenset[Identity]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """The files below a folder; with each what keeps it from being read, "" if nothing does."""
    closed: set[Identity] = set()  # folders that no link leads into any more
    waiting: list[tuple[os.DirEntry[str] | None, bool]] = [(None, True)]
    while waiting:
        parent, has_own_name = waiting.pop()
        try:
            entries = _visible(parent.path if parent else folder)
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
                    # Links are rare, so what they may not lead into is found out with the first of them.
                    closed = closed or {*beside, *_own_folders(folder)}
                    if identity(entry.path) in closed:
                        continue
                    closed.add(identity(entry.path))
                folders.append((entry, own))
            elif target.is_file():
                yield entry, ""
            else:
                yield entry, "links to no file" if entry.is_symlink() else "pipes or devices"
        waiting += reversed(folders)


def _visible(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)


def _own_folders(folder: Path) -> Iterator[Identity]:
    """A folder, those that it lies in, and those below it that are reached without a link."""
    yield from (identity(parent) for parent in (folder, *folder.resolve().parents))
    for parent, folders, _ in os.walk(folder):
        paths = {name: Path(parent, name) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in paths.items() if not path.is_symlink()]
        yield from (identity(paths[name]) for name in folders)
