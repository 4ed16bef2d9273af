"""Folders of class folders: which files there are, and which of them can be decoded."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from densenets.data.images import read_image
from densenets.data.listing import subfolders
from densenets.data.picture_files import find_pictures, identity, tell_left_out
from densenets.data.sources import FileImages
from densenets.errors import InputError, unknown_name
from densenets.names import tell


def class_names(folder: Path) -> tuple[str, ...]:
    """The class folders of a folder, sorted.

    Raises:
        InputError: there is no such folder, or no class folder in it, or two whose names look the same.
    """
    classes = subfolders(folder)
    if not classes:
        raise InputError(f"{folder} holds no class folders; each class needs a folder with its images")
    seen: dict[str, str] = {}
    for name in classes:
        twin = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if twin != name:
            raise InputError(
                f"{folder} has two class folders called {twin}: their names differ in the Unicode form alone "
                f"({twin!a} and {name!a}); merge them"
            )
    return tuple(classes)


def scan(folder: Path, classes: Sequence[str], *, skip_broken: bool) -> FileImages:
    """All images of a folder's class folders, class by class, sorted.

    Args:
        folder: holds a folder for each class; some classes may be absent, other classes may not.
        classes: every class there is; the label is the place in it.
        skip_broken: decode every file once, and leave out those that cannot be, naming them.

    Raises:
        InputError: a class folder is unknown, cannot be read, or has no image.
    """
    names = class_names(folder)
    for name in names:
        if name not in classes:
            raise _unknown_class(folder, name, classes)
    present = [(label, name) for label, name in enumerate(classes) if name in names]
    found = _pictures(folder, present)
    counts = Counter(label for _, label in found)
    empty = [name for label, name in present if not counts[label]]
    if empty:
        raise InputError(
            f"no images in class {', '.join(empty[:5])} of {folder}; add some or remove the folder"
        )
    images = FileImages(tuple(path for path, _ in found), torch.tensor([label for _, label in found]))
    if not skip_broken:
        return images
    whole = images.subset(whole_images(images))
    kept = set(whole.labels.tolist())
    if lost := [name for label, name in present if label not in kept]:
        raise InputError(
            f"no images in class {', '.join(lost[:5])} of {folder} that can be decoded; add some or remove "
            "the folder"
        )
    return whole


def whole_images(images: FileImages) -> Tensor:
    """The places of the images that can be decoded, ascending; the others are named on standard error."""
    broken = _broken(Console(stderr=True), images.paths)
    whole = [place for place, path in enumerate(images.paths) if path not in broken]
    return torch.tensor(whole, dtype=torch.int64)


def _unknown_class(folder: Path, name: str, classes: Sequence[str]) -> InputError:
    """The error for a class folder that is none of the classes; a name in another spelling is pointed at."""
    for other in classes:
        if _spelling(other) == _spelling(name):
            return InputError(
                f"unknown class in {folder} '{name}'; it is '{other}' ({other!a}) elsewhere, in other case "
                f"or Unicode form than {name!a}; give both folders one name"
            )
    return unknown_name(f"class in {folder}", name, classes)


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())


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
