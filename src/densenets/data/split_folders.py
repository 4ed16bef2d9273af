"""Training, validation and test folders below a root, recognised by any of their usual names.

Nothing else decides which folder is which split. Needs no PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from densenets.data.folder_listing import find_pictures, subfolders
from densenets.errors import InputError

Split = Literal["training", "validation", "test"]

_NAMES: dict[Split, frozenset[str]] = {
    "training": frozenset({"train", "training"}),
    "validation": frozenset({"val", "valid", "validation", "dev", "development"}),
    "test": frozenset({"test", "testing"}),
}
# A test set beside val/ or alone, a validation set beside test/.
_VALIDATION_OR_TEST = frozenset({"eval", "evaluation", "holdout", "heldout"})
_SUFFIX = re.compile(r"[ _-]?(set|data|images)$")  # as in training_set
_SEPARATOR = re.compile(r"[ _-]")
_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?|hold-?out)(set)?(?![a-z])"
)


@dataclass(frozen=True)
class SplitFolders:
    """The folders below a root that hold the class folders of each split.

    Attributes:
        training: folder of the training images.
        validation: folder of the images that choose the best checkpoint; None if there is none.
        test: folder of the images that the result is reported on, and that choose nothing; None if there is
            none.
        unused: names of the other folders beside them.
    """

    training: Path | None = None
    validation: Path | None = None
    test: Path | None = None
    unused: tuple[str, ...] = ()


def find_training_splits(root: Path) -> SplitFolders:
    """The splits below a root to train on; a root without splits is itself the training folder.

    Raises:
        InputError: there is no such folder, or its folders look like splits and cannot be used as such.
    """
    folders = find_split_folders(root)
    if folders.training is not None:
        return folders
    if folders != SplitFolders():
        other = folders.test or folders.validation
        raise InputError(
            f"{root} has a {other.name if other else ''} folder and no train folder to learn from"
        )
    _refuse_splits_as_classes(root)
    return SplitFolders(training=root)


def training_folder(root: Path) -> Path:
    """The folder that holds the class folders to train on: the training split, or the root itself.

    Raises:
        InputError: as `find_training_splits`.
    """
    return find_training_splits(root).training or root


def find_split_folders(root: Path) -> SplitFolders:
    """The splits that folders below a root are; none where the root's folders are classes.

    Raises:
        InputError: there is no such folder, two folders are one split, or one holds pictures directly.
    """
    names = subfolders(root)
    by_split = _names_by_split(names)
    split_names = [name for folders in by_split.values() for name in folders]
    with_classes = [name for name in split_names if subfolders(root / name)]
    if not by_split["training"]:
        # "test" and "val" may be classes among others; alone they are splits.
        if len(split_names) < len(names) or not with_classes:
            _refuse_classes_inside(root, with_classes, set(names) - set(split_names))
            return SplitFolders()
    elif not with_classes and len(split_names) == len(by_split["training"]) < len(names):
        return SplitFolders()  # a class called train, among others
    for split, folders in by_split.items():
        if len(folders) > 1:
            raise InputError(
                f"{root} has {len(folders)} {split} folders ({' and '.join(folders)}); leave one of them"
            )
    for name in split_names:
        if name not in with_classes and find_pictures(root / name).pictures:
            raise InputError(
                f"{root / name} holds pictures and no class folders; as a split it needs a folder for each "
                "class, as a class of its own another name"
            )
    paths = {split: root / folders[0] for split, folders in by_split.items() if folders}
    return SplitFolders(
        paths.get("training"),
        paths.get("validation"),
        paths.get("test"),
        tuple(name for name in names if name not in split_names),
    )


def split_of_name(name: str) -> Split | None:
    """The split that a folder's name usually stands for, such as "Valid" for validation; None if for none."""
    stem = _stem(name)
    if stem in _VALIDATION_OR_TEST:
        return "test"
    return next((split for split, names in _NAMES.items() if stem in names), None)


def _stem(name: str) -> str:
    """A folder's name in small letters, without separators and a suffix such as "_set"."""
    return _SEPARATOR.sub("", _SUFFIX.sub("", name.casefold()))


def _names_by_split(names: Sequence[str]) -> dict[Split, list[str]]:
    by_split: dict[Split, list[str]] = {
        split: [name for name in names if _stem(name) in usual] for split, usual in _NAMES.items()
    }
    for name in names:
        if _stem(name) in _VALIDATION_OR_TEST:
            by_split["validation" if by_split["test"] else "test"].append(name)
    return by_split


def _refuse_classes_inside(root: Path, splits: Sequence[str], classes: set[str]) -> None:
    """Refuse classes to train on that lie beside a test/ with folders for the same classes."""
    for name in splits:
        if both := classes & set(subfolders(root / name)):
            raise InputError(
                f"{root} has the class {min(both)} and {name}/{min(both)} too; put the classes beside {name} "
                "into a folder train"
            )


def _refuse_splits_as_classes(root: Path) -> None:
    """Refuse class folders whose names look like splits, and classes that are split each for itself."""
    names = subfolders(root)
    if len(names) > 1 and all(_SPLIT_WORD.search(name.casefold()) for name in names):
        raise InputError(
            f"the folders of {root} ({', '.join(names[:4])}) look like splits, not like classes; "
            "call them train, val and test, each with a folder for each class"
        )
    for name in names:
        inner = _names_by_split(subfolders(root / name))
        if inner["training"] and (inner["validation"] or inner["test"]):
            if len(names) == 1:
                raise InputError(f"the splits lie in {root / name}; name that folder with --data.root")
            raise InputError(
                f"the class {name} of {root} is split for itself ({', '.join(subfolders(root / name)[:4])}); "
                "put the splits outside and the classes inside, as in train/CLASS"
            )
