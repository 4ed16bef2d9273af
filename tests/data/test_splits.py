"""Folders as splits: which folder is which, what is held out, and what a resumed run is compared with."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from densenets.data.data_config import DataConfig
from densenets.data.image_sets import FileImages
from densenets.data.load import load_data, load_evaluation_images
from densenets.data.random_split import stratified_split
from densenets.errors import InputError

DIGIT_NAMES = ("one", "two", "zero")


def folder_config(root: Path, **fields: Any) -> DataConfig:
    return DataConfig(name="folder", root=root, normalization="imagenet", image_size=12, **fields)


def test_val_is_evaluated_and_is_no_test_set(picture_folder: Path) -> None:
    splits = load_data(folder_config(picture_folder))
    assert splits.classes == ("one", "two", "zero")
    assert (len(splits.training), len(splits.validation)) == (15, 9)
    assert splits.test is None
    assert (splits.evaluation_split, splits.reported) == ("validation", "validation")
    training, validation, last = splits.summary_lines()
    assert training == f"training: 15 images of 3 classes in {picture_folder / 'train'}"
    assert validation == f"validation: 9 images of 3 classes in {picture_folder / 'val'}"
    assert last.startswith("test: none")
    assert splits.preprocessing.mean == (0.485, 0.456, 0.406)
    assert (splits.preprocessing.image_size, splits.preprocessing.resize) == (12, 14)


def test_images_of_a_folder_can_be_held_out_too(picture_folder: Path) -> None:
    splits = load_data(folder_config(picture_folder, held_out=0.2))
    # Beside those of val/, which alone may be few.
    assert (len(splits.training), len(splits.validation), splits.test) == (12, 9 + 3, None)
    assert isinstance(splits.training, FileImages)
    assert isinstance(splits.validation, FileImages)
    assert not set(splits.training.paths) & set(splits.validation.paths)
    (picture_folder / "val").rename(picture_folder / "Testing")
    splits = load_data(folder_config(picture_folder, held_out=0.2))
    assert (len(splits.training), len(splits.validation), len(splits.test)) == (12, 3, 9)
    assert (splits.evaluation_split, splits.reported) == ("validation", "test")


def test_train_val_and_test_have_their_roles(picture_folder: Path) -> None:
    shutil.copytree(picture_folder / "val", picture_folder / "TEST")
    shutil.rmtree(picture_folder / "TEST" / "two")
    shutil.copytree(picture_folder / "val", picture_folder / "masks")
    splits = load_data(folder_config(picture_folder))
    assert splits.validation.paths[0].parts[-3:] == ("val", "one", "5.png")
    assert splits.test.paths[0].parts[-3:] == ("TEST", "one", "5.png")
    assert splits.test.labels.tolist() == [0] * 3 + [2] * 3
    assert (splits.evaluation_split, splits.reported) == ("validation", "test")
    assert splits.summary_lines()[2:] == [
        f"test: 6 images of 2 classes in {picture_folder / 'TEST'}; none of two",
        "folders without a role, not read: masks",
    ]


@pytest.mark.parametrize("held_out", [0.2, 0.34, 3, 5, 12])
def test_every_class_is_held_out_and_trained_on(picture_folder: Path, held_out: float) -> None:
    for name in ("one", "two"):  # 1 : 1 : 5 images, in which a blind draw of 3 would often have none of one
        for number in range(2, 5):
            (picture_folder / "train" / name / f"{number}.png").unlink()
    for number in range(6):
        shutil.copy(picture_folder / "val/zero/5.png", picture_folder / f"train/zero/more{number}.png")
    for seed in range(5):
        splits = load_data(folder_config(picture_folder / "train", held_out=held_out, split_seed=seed))
        number = round(held_out * 15) if held_out < 1 else held_out
        assert len(splits.validation) == number
        for images in (splits.training, splits.validation):
            assert set(images.labels.tolist()) == {0, 1, 2}
        again = load_data(folder_config(picture_folder / "train", held_out=held_out, split_seed=seed))
        assert again.validation.paths == splits.validation.paths


def test_the_share_of_each_class_is_that_of_all(picture_folder: Path) -> None:
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)
    stay, taken = stratified_split(labels, 16, seed=0, staying=1)
    assert torch.bincount(labels[taken]).tolist() == [10, 5, 1]
    assert sorted(stay.tolist() + taken.tolist()) == list(range(160))
    assert stay.tolist() == sorted(stay.tolist())
    assert stratified_split(labels, 16, seed=1, staying=1)[1].tolist() != taken.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 2}, "held_out must make 3 to 12 of 15 images, .* 3 classes .*, got 2"),
        ({"held_out": 13}, "must make 3 to 12 of"),
        ({"held_out": 0.99}, "leaves nothing to train on"),
        (
            {"held_out": 0.2, "training_images": 2},
            "training_images must make 3 to 12 of 12 images, .*, got 2",
        ),
    ],
)
def test_a_split_that_loses_a_class_is_refused(
    picture_folder: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_data(folder_config(picture_folder / "train", **fields))


def test_a_small_share_is_at_least_one_of_every_class(picture_folder: Path) -> None:
    splits = load_data(folder_config(picture_folder / "train", held_out=0.1))  # 1.5 of 15
    assert splits.validation.labels.tolist() == [0, 1, 2]


def test_a_class_of_one_image_cannot_be_held_out(picture_folder: Path) -> None:
    for number in range(1, 5):
        (picture_folder / "train" / "two" / f"{number}.png").unlink()
    with pytest.raises(InputError, match=r"class two of .* has one image"):
        load_data(folder_config(picture_folder, held_out=0.2))
    assert len(load_data(folder_config(picture_folder)).training) == 11


def test_one_class_alone_is_refused(picture_folder: Path) -> None:
    for name in ("one", "two"):
        shutil.rmtree(picture_folder / "train" / name)
    with pytest.raises(InputError, match=r"one class folder alone \(zero\)"):
        load_data(folder_config(picture_folder))


def test_training_images_are_of_every_class(picture_folder: Path) -> None:
    splits = load_data(folder_config(picture_folder, training_images=4))
    assert sorted(torch.bincount(splits.training.labels).tolist()) == [1, 1, 2]


def test_a_broken_image_changes_no_others_role_or_place(picture_folder: Path) -> None:
    config = folder_config(picture_folder / "train", held_out=0.4)
    before = load_data(config)
    broken = [before.training.paths[4], before.validation.paths[0]]
    for path in broken:
        path.write_bytes(b"no picture")
    after = load_data(dataclasses.replace(config, skip_broken=True))
    assert after.left_out == (4,)
    assert after.training.paths == tuple(p for p in before.training.paths if p not in broken)
    assert after.validation.paths == tuple(p for p in before.validation.paths if p not in broken)
    assert after.difference(before.record()) == ""
    assert "left out" in after.summary_lines()[0]


def test_a_class_of_which_nothing_can_be_decoded_is_named(picture_folder: Path) -> None:
    for path in (picture_folder / "train" / "one").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no image of class one in .* can be decoded"):
        load_data(folder_config(picture_folder, skip_broken=True))


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    shutil.copy(next(path.parents[1].glob("zero/*.png")), path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "renamed": (
        lambda root: [(root / s / "one").rename(root / s / "z") for s in ("train", "val")],
        "'z' is new",
    ),
    "added": (lambda root: add(root / "train/four/0.png"), "'four' is new"),
    "gone": (lambda root: [shutil.rmtree(root / s / "two") for s in ("train", "val")], "'two' is gone"),
    "more": (lambda root: add(root / "train/one/9.png"), "the training images are not the same"),
    "fewer": (
        lambda root: (root / "val/one/5.png").unlink(),
        "the validation images .*8 now, 9 at the start",
    ),
    "name": (lambda root: (root / "train/one/0.png").rename(root / "train/one/x.png"), "by other names"),
    "moved": (
        lambda root: (root / "train/one/0.png").rename(root / "train/two/0a.png"),
        "the training images are not the same",
    ),
    "test": (
        lambda root: shutil.copytree(root / "val", root / "test"),
        "the test images .*9 now, 0 at the start",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_the_start_is_found(picture_folder: Path, change: str) -> None:
    noted = json.loads(json.dumps(load_data(folder_config(picture_folder)).record()))
    CHANGES[change][0](picture_folder)
    assert re.search(CHANGES[change][1], load_data(folder_config(picture_folder)).difference(noted))


def test_a_folder_may_lie_elsewhere_later(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = load_data(folder_config(picture_folder)).record()
    moved = picture_folder.rename(picture_folder.with_name("moved"))
    assert load_data(folder_config(moved)).difference(noted) == ""
    monkeypatch.chdir(moved)
    assert load_data(folder_config(Path())).difference(noted) == ""


@pytest.mark.parametrize("noted", [{}, None, [], {"classes": 3}, {"training": 5}, {"test": "much"}])
def test_notes_that_are_none_are_no_crash(picture_folder: Path, noted: Any) -> None:
    assert isinstance(load_data(folder_config(picture_folder)).difference(noted), str)


def test_a_folder_without_val_needs_held_out_images(picture_folder: Path) -> None:
    with pytest.raises(InputError, match=r"no val folder .* --data\.held-out"):
        load_data(folder_config(picture_folder / "train"))
    splits = load_data(folder_config(picture_folder / "train", held_out=5))
    assert (len(splits.training), len(splits.validation)) == (10, 5)
    assert splits.test is None
    assert splits.reported == "validation"


def test_a_folder_is_evaluated_on_test_or_else_val_and_says_which(picture_folder: Path) -> None:
    def split(data: Path) -> tuple[str, str]:
        images = load_evaluation_images(str(data), None, Path("data"), DIGIT_NAMES, skip_broken=False)
        return images.split, images.source

    assert split(picture_folder) == ("validation", str(picture_folder / "val"))
    assert split(picture_folder / "train") == ("training", str(picture_folder / "train"))
    test = shutil.copytree(picture_folder / "val", picture_folder / "Testing")
    assert split(picture_folder) == ("test", str(test))
    shutil.rmtree(picture_folder / "train")
    assert split(picture_folder) == ("test", str(test))
    other = shutil.copytree(test, picture_folder / "others")
    assert split(other) == ("all", str(other))


def own_images(root: Path, reported: Any = None, **fields: Any) -> tuple[str, int]:
    config = folder_config(root, **fields)
    images = load_evaluation_images(
        "", config, Path("data"), DIGIT_NAMES, skip_broken=False, reported=reported
    )
    return images.split, len(images.images)


@pytest.mark.parametrize("held_out", [0, 0.2])
@pytest.mark.parametrize("has_test", [True, False])
def test_a_checkpoints_own_images_are_those_that_its_run_reported(
    picture_folder: Path, has_test: bool, held_out: float
) -> None:
    if has_test:
        shutil.copytree(picture_folder / "val", picture_folder / "test")
    splits = load_data(folder_config(picture_folder, held_out=held_out))
    reported = json.loads(json.dumps(splits.records[splits.reported].to_dict()))
    expected = (splits.reported, len(splits.images_of(splits.reported)))
    assert expected == (("test", 9) if has_test else ("validation", 12 if held_out else 9))
    assert own_images(picture_folder, reported, held_out=held_out) == expected
    add(picture_folder / splits.reported[:4].replace("vali", "val") / "one/9.png")
    with pytest.raises(InputError, match="are not those that the run reported"):
        own_images(picture_folder, reported, held_out=held_out)


def test_own_images_whose_classes_changed_on_disk_are_refused(picture_folder: Path) -> None:
    for split in ("train", "val"):
        (picture_folder / split / "one").rename(picture_folder / split / "uno")
    with pytest.raises(InputError, match="'uno' is new and 'one' is gone"):
        own_images(picture_folder)


def test_test_images_are_found_without_those_to_train_on(picture_folder: Path) -> None:
    shutil.copytree(picture_folder / "val", picture_folder / "test")
    for path in (picture_folder / "train").glob("*/*"):
        path.unlink()
    assert own_images(picture_folder) == ("test", 9)
