"""Which folder plays which role: train/, val/ and test/ beside each other, under any of their usual names.

The one place that decides it. Needs no PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from densenets.data.listing import subfolders
from densenets.data.picture_files import find_pictures
from densenets.errors import InputError

Role = Literal["training", "validation", "test"]

_NAMES: dict[Role, frozenset[str]] = {
    "training": frozenset({"train", "training"}),
    "validation": frozenset({"val", "valid", "validation", "dev", "development"}),
    "test": frozenset({"test", "testing"}),
}
# They play whatever role is left: a test set beside val/ or alone, a validation set beside test/.
_EITHER = frozenset({"eval", "evaluation", "holdout", "heldout"})
_SUFFIX = re.compile(r"[ _-]?(set|data|images)$")  # as in training_set
_SEPARATOR = re.compile(r"[ _-]")
_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train(ing)?|test(ing)?|val(id(ation)?)?|dev|eval(uation)?|hold-?out)(set)?(?![a-z])"
)


@dataclass(frozen=True)
class Roles:
    """The folders of class folders below a root.

    Attributes:
        training: what is trained on.
        validation: what is watched and chooses the checkpoint, if there is any.
        test: what the result is reported on and nothing is chosen by, if there is any.
        others: names of folders beside them that play no role.
    """

    training: Path | None = None
    validation: Path | None = None
    test: Path | None = None
    others: tuple[str, ...] = ()


def training_roles(root: Path) -> Roles:
    """The roles below a root that is trained on; without any the root itself holds the classes to train on.

    Raises:
        InputError: there is no such folder, or its folders look like splits and cannot be used as such.
    """
    roles = folder_roles(root)
    if roles.training is not None:
        return roles
    if roles != Roles():
        found = roles.test or roles.validation
        raise InputError(
            f"{root} has a {found.name if found else ''} folder and no train folder to learn from"
        )
    _refuse_splits(root)
    return Roles(training=root)


def training_folder(root: Path) -> Path:
    """Where the class folders for training lie: the folder of that role, or the root itself.

    Raises:
        InputError: as `training_roles`.
    """
    return training_roles(root).training or root


def folder_roles(root: Path) -> Roles:
    """The roles that folders below a root play; none where the root's folders are classes.

    Raises:
        InputError: there is no such folder, two folders play one role, or one holds pictures directly.
    """
    names = subfolders(root)
    by_role = _by_role(names)
    splits = [name for found in by_role.values() for name in found]
    holding = [name for name in splits if subfolders(root / name)]
    if not by_role["training"]:
        # "test" and "val" may be classes among others; alone they are what they are called.
        if len(splits) < len(names) or not holding:
            _refuse_classes_inside(root, holding, set(names) - set(splits))
            return Roles()
    elif not holding and len(splits) == len(by_role["training"]) < len(names):
        return Roles()  # a class called train, among others
    for role, found in by_role.items():
        if len(found) > 1:
            raise InputError(
                f"{root} has {len(found)} {role} folders ({' and '.join(found)}); leave one of them"
            )
    for name in splits:
        if name not in holding and find_pictures(root / name).pictures:
            raise InputError(
                f"{root / name} holds pictures and no class folders; as a split it needs a folder for each "
                "class, as a class of its own another name"
            )
    folder = {role: root / found[0] for role, found in by_role.items() if found}
    return Roles(
        folder.get("training"),
        folder.get("validation"),
        folder.get("test"),
        tuple(name for name in names if name not in splits),
    )


def role_of(name: str) -> Role | None:
    """The role that a folder's name stands for, if it is the usual name of one."""
    stem = _stem(name)
    if stem in _EITHER:
        return "test"
    return next((role for role, names in _NAMES.items() if stem in names), None)


def _stem(name: str) -> str:
    return _SEPARATOR.sub("", _SUFFIX.sub("", name.casefold()))


def _by_role(names: Sequence[str]) -> dict[Role, list[str]]:
    found: dict[Role, list[str]] = {
        role: [name for name in names if _stem(name) in usual] for role, usual in _NAMES.items()
    }
    for name in names:
        if _stem(name) in _EITHER:
            found["validation" if found["test"] else "test"].append(name)
    return found


def _refuse_classes_inside(root: Path, splits: Sequence[str], classes: set[str]) -> None:
    """Refuse classes to train on that lie beside a test/ with folders for the same classes."""
    for name in splits:
        if both := classes & set(subfolders(root / name)):
            raise InputError(
                f"{root} has the class {min(both)} and {name}/{min(both)} too; put the classes beside {name} "
                "into a folder train"
            )


def _refuse_splits(root: Path) -> None:
    """Refuse class folders that are splits by other names, and classes that are split each for itself."""
    names = subfolders(root)
    if len(names) > 1 and all(_SPLIT_WORD.search(name.casefold()) for name in names):
        raise InputError(
            f"the folders of {root} ({', '.join(names[:4])}) look like splits, not like classes; "
            "call them train, val and test, each with a folder for each class"
        )
    for name in names:
        inner = _by_role(subfolders(root / name))
        if inner["training"] and (inner["validation"] or inner["test"]):
            if len(names) == 1:
                raise InputError(f"the splits lie in {root / name}; name that folder with --data.root")
            raise InputError(
                f"the class {name} of {root} is split for itself ({', '.join(subfolders(root / name)[:4])}); "
                "put the splits outside and the classes inside, as in train/CLASS"
            )
