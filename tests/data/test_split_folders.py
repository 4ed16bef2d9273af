"""Folders recognised as splits, and layouts that are refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from densenets.data.split_folders import (
    SplitFolders,
    find_split_folders,
    find_training_splits,
    split_of_name,
    training_folder,
)
from densenets.errors import InputError


def lay_out(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


def splits(root: Path, *names: str) -> Path:
    """Folders with the classes cat and dog in each."""
    return lay_out(root, *(f"{name}/{label}/0.png" for name in names for label in ("cat", "dog")))


@pytest.mark.parametrize(
    ("training", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", None, "Testing"),
        ("TRAIN", "Valid", "TEST"),
        ("training_set", "validation-set", "test set"),
        ("train", "dev", None),
        ("train", "val", None),
        ("train", None, "eval"),
        ("training", "validation", "evaluation"),
        ("train", "eval", "test"),
        ("train", None, "holdout"),
        ("train", None, None),
    ],
)
def test_splits_go_by_the_usual_names(
    tmp_path: Path, training: str, validation: str | None, test: str | None
) -> None:
    names = [name for name in (training, validation, test) if name]
    splits(tmp_path, *names, ".hidden")
    expected = [None if name is None else tmp_path / name for name in (training, validation, test)]
    assert find_training_splits(tmp_path) == SplitFolders(*expected)
    assert training_folder(tmp_path) == tmp_path / training


def test_folders_beside_them_are_told(tmp_path: Path) -> None:
    splits(tmp_path, "train", "test", "masks")
    assert find_split_folders(tmp_path).unused == ("masks",)


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog"),
        ("bus", "car", "train"),
        ("test", "control"),
        ("train_station", "museum"),
        ("dev", "ops"),
    ],
)
def test_class_folders_are_no_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    lay_out(tmp_path, *(f"{name}/0.png" for name in names))
    assert find_split_folders(tmp_path) == SplitFolders()
    assert find_training_splits(tmp_path) == SplitFolders(training=tmp_path)


def test_one_who_only_evaluates_needs_no_train_folder(tmp_path: Path) -> None:
    splits(tmp_path, "val", "test")
    assert find_split_folders(tmp_path) == SplitFolders(None, tmp_path / "val", tmp_path / "test")
    with pytest.raises(InputError, match="no train folder to learn from"):
        find_training_splits(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/0.png", "test/0.png"), "train holds pictures and no class folders"),
        (("train/0.png", "test/0.png", "dog/0.png"), "train holds pictures and no class folders"),
        (("train/cat/0.png", "train/dog/0.png", "test/0.png"), "test holds pictures and no class folders"),
        (("train/0.png", "val/cat/0.png"), "train holds pictures and no class folders"),
        (("train/a/0.png", "Training/a/0.png"), "2 training folders \\(Training and train\\)"),
        (("train/a/0.png", "val/a/0.png", "valid/a/0.png"), "2 validation folders \\(val and valid\\)"),
        (("seg_train/seg_train/a/0.png", "seg_test/seg_test/a/0.png"), "look like splits, not like classes"),
        (("train1/0.png", "test1/0.png"), "look like splits, not like classes"),
        (("xrays/train/a/0.png", "xrays/test/a/0.png"), "the splits lie in .*xrays; name that folder"),
        (("cat/train/0.png", "cat/test/0.png", "dog/train/0.png"), "class cat of .* is split for itself"),
        (("cat/0.png", "dog/0.png", "test/cat/0.png"), "has the class cat and test/cat too"),
    ],
)
def test_what_looks_like_splits_and_is_not_laid_out_so_is_one_line(
    tmp_path: Path, files: tuple[str, ...], message: str
) -> None:
    lay_out(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        find_training_splits(tmp_path)


def test_a_split_without_pictures_is_not_said_to_hold_some(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/a/0.png", "val/.DS_Store", "val/notes.txt")
    assert find_split_folders(tmp_path) == SplitFolders(tmp_path / "train", tmp_path / "val")


@pytest.mark.parametrize(
    ("name", "split"),
    [("Test", "test"), ("valid", "validation"), ("training_data", "training"), ("cats", None)],
)
def test_a_folder_tells_its_split_by_its_name(name: str, split: str | None) -> None:
    assert split_of_name(name) == split
