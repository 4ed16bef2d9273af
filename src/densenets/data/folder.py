"""Folders of class folders: which files there are, and which of them can be decoded."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from densenets.data.images import read_image
from densenets.data.picture_files import find_pictures, identity, tell_left_out
from densenets.data.sources import FileImages
from densenets.errors import InputError, unknown_name
from densenets.names import tell

_VALIDATION_NAMES = ("val", "valid", "validation", "test")


def training_folder(root: Path) -> Path:
    """Where the class folders for training lie: root/train, or root itself."""
    return root / "train" if (root / "train").is_dir() else root


def validation_folder(root: Path) -> Path | None:
    """Where the class folders for evaluation lie, if the folder has any."""
    if not (root / "train").is_dir():
        return None
    return next((root / name for name in _VALIDATION_NAMES if (root / name).is_dir()), None)


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders of a folder, sorted.

    Raises:
        InputError: there is no such folder, or no class folder in it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; name it with --data.root")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(f"{folder} holds no class folders; each class needs a folder with its images")
    return tuple(classes)


def scan(folder: Path, classes: Sequence[str], *, skip_broken: bool) -> FileImages:
    """All images of a folder's class folders, class by class, sorted.

    Args:
        folder: holds a folder for each class; some classes may be absent, other classes may not.
        classes: every class there is; the label is the place in it.
        skip_broken: decode every file once, and leave out those that cannot be, naming them.

    Raises:
        InputError: a class folder is unknown, or has no image.
    """
    for name in class_names(folder):
        if name not in classes:
            raise unknown_name(f"class in {folder}", name, classes)
    present = [(label, name) for label, name in enumerate(classes) if (folder / name).is_dir()]
    found = _pictures(folder, present)
    if skip_broken:
        broken = _broken(Console(stderr=True), [path for path, _ in found])
        found = [(path, label) for path, label in found if path not in broken]
    counts = Counter(label for _, label in found)
    empty = [name for label, name in present if not counts[label]]
    if empty:
        raise InputError(
            f"no images in class {', '.join(empty[:5])} of {folder}; add some or remove the folder"
        )
    return FileImages(tuple(path for path, _ in found), torch.tensor([label for _, label in found]))


def image_files(folder: Path) -> list[Path]:
    """Every image file below a folder, by its suffix, sorted; links are followed, hidden files left out."""
    return find_pictures(folder).pictures


def _pictures(folder: Path, present: Sequence[tuple[int, str]]) -> list[tuple[Path, int]]:
    """The pictures of the class folders that are present, each with its label; what is left out is told."""
    # A link into another class's folder would give its pictures a second label.
    classes = frozenset(identity(folder / name) for _, name in present)
    by_label = [(label, find_pictures(folder / name, beside=classes)) for label, name in present]
    tell_left_out(folder, sum((found.left_out for _, found in by_label), Counter()))
    return [(path, label) for label, found in by_label for path in found.pictures]


def _broken(console: Console, paths: Sequence[Path]) -> set[Path]:
    def reason(path: Path) -> str:
        try:
            read_image(path, channels=3)
        except InputError as error:
            return str(error)
        return ""

    # Pillow decodes outside of the interpreter's lock, so threads suffice. Which warnings are heard is one
    # setting for all of them: where it is set in a thread alone, another puts back what it found.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        found = pool.map(reason, paths)
        hidden = not console.is_terminal
        reasons = list(track(found, "Looking for broken images", len(paths), console=console, disable=hidden))
    for text in filter(None, reasons):
        tell(f"skipped: {text}")
    return {path for path, text in zip(paths, reasons, strict=True) if text}
