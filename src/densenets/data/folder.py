"""Image folders, as torchvision's ImageFolder reads them: a folder for each class, with its picture files."""

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

from densenets.data.folder_listing import find_pictures, folder_id, print_left_out, subfolders
from densenets.data.image_sets import FileImages
from densenets.data.images import read_image
from densenets.errors import InputError, unknown_name
from densenets.names import tell


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in a folder, sorted; a class' label is its place among them.

    Raises:
        InputError: there is no such folder, or no class folder in it, or two whose names look the same.
    """
    classes = subfolders(folder)
    if not classes:
        raise InputError(f"{folder} holds no class folders; each class needs a folder with its images")
    by_normal_form: dict[str, str] = {}
    for name in classes:
        first = by_normal_form.setdefault(unicodedata.normalize("NFC", name), name)
        if first != name:
            raise InputError(
                f"{folder} has two class folders called {first}: their names differ in the Unicode form "
                f"alone ({first!a} and {name!a}); merge them"
            )
    return tuple(classes)


def scan(folder: Path, classes: Sequence[str], *, skip_broken: bool) -> FileImages:
    """Labelled files of all class folders in a folder, class by class, sorted; none is decoded.

    Args:
        folder: holds a folder for each class; some classes may be absent, other classes may not.
        classes: names of all classes; a label is a place in it.
        skip_broken: decode every file once, and leave out those that cannot be decoded, naming them.

    Raises:
        InputError: a class folder is unknown, cannot be read, or has no image.
    """
    names = class_names(folder)
    for name in names:
        if name not in classes:
            raise _unknown_class_error(folder, name, classes)
    present = [(label, name) for label, name in enumerate(classes) if name in names]
    labelled = _labelled_pictures(folder, present)
    counts = Counter(label for _, label in labelled)
    empty = [name for label, name in present if not counts[label]]
    if empty:
        raise InputError(
            f"no images in class {', '.join(empty[:5])} of {folder}; add some or remove the folder"
        )
    images = FileImages(tuple(path for path, _ in labelled), torch.tensor([label for _, label in labelled]))
    if not skip_broken:
        return images
    decodable = images.subset(decodable_images(images))
    labels = set(decodable.labels.tolist())
    if emptied := [name for label, name in present if label not in labels]:
        raise InputError(
            f"no images in class {', '.join(emptied[:5])} of {folder} that can be decoded; add some or "
            "remove the folder"
        )
    return decodable


def decodable_images(images: FileImages) -> Tensor:
    """Indices of the images that can be decoded, ascending; the others are named on standard error."""
    broken = _broken_paths(Console(stderr=True), images.paths)
    indices = [index for index, path in enumerate(images.paths) if path not in broken]
    return torch.tensor(indices, dtype=torch.int64)


def image_files(folder: Path) -> list[Path]:
    """Every picture below a folder, by its suffix, sorted; links are followed, hidden files are left out."""
    return find_pictures(folder).pictures


def _unknown_class_error(folder: Path, name: str, classes: Sequence[str]) -> InputError:
    """The error for a class folder that is none of the classes; it names the class of another spelling."""
    for other in classes:
        if _folded(other) == _folded(name):
            return InputError(
                f"unknown class in {folder} '{name}'; it is '{other}' ({other!a}) elsewhere, in other case "
                f"or Unicode form than {name!a}; give both folders one name"
            )
    return unknown_name(f"class in {folder}", name, classes)


def _folded(name: str) -> str:
    """A name without its case and Unicode form."""
    return unicodedata.normalize("NFKC", name.casefold())


def _labelled_pictures(folder: Path, present: Sequence[tuple[int, str]]) -> list[tuple[Path, int]]:
    """Paths and labels of the pictures in the class folders; the number of other files is printed."""
    # A link into another class's folder would give its pictures a second label.
    class_folders = frozenset(folder_id(folder / name) for _, name in present)
    by_label = [(label, find_pictures(folder / name, excluded=class_folders)) for label, name in present]
    print_left_out(folder, sum((files.left_out for _, files in by_label), Counter()))
    return [(path, label) for label, files in by_label for path in files.pictures]


def _broken_paths(console: Console, paths: Sequence[Path]) -> set[Path]:
    """The files that cannot be decoded; each is named on standard error."""

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
        pending = pool.map(reason, paths)
        hidden = not console.is_terminal
        reasons = list(
            track(pending, "Looking for broken images", len(paths), console=console, disable=hidden)
        )
    for text in filter(None, reasons):
        tell(f"skipped: {text}")
    return {path for path, text in zip(paths, reasons, strict=True) if text}
