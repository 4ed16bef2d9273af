from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from densenets.data.folder import class_names, image_files, scan, training_folder, validation_folder
from densenets.errors import InputError


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)
    return path


def test_images_are_found_at_any_depth_in_order(tmp_path: Path) -> None:
    expected = [make(tmp_path / name) for name in ("b.png", "c.JPG", "a/z.png", "a/deep/er/x.gif")]
    for ignored in (".hidden.png", ".cache/y.png", "a/.thumbs/t.png"):
        make(tmp_path / ignored)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "png").write_text("no suffix")
    assert image_files(tmp_path) == expected


def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere" / "far.png")
    near = make(tmp_path / "class" / "near.png")
    (tmp_path / "class" / "link").symlink_to(tmp_path / "elsewhere")
    assert image_files(tmp_path / "class") == [near, tmp_path / "class" / "link" / "far.png"]


def test_classes_are_the_sorted_folders(picture_folder: Path) -> None:
    (picture_folder / "train" / ".git").mkdir()
    (picture_folder / "train" / "readme.txt").write_text("no class")
    assert class_names(picture_folder / "train") == ("one", "two", "zero")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no folder {tmp_path / 'gone'}"):
        class_names(tmp_path / "gone")


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "lonely.png")
    with pytest.raises(InputError, match="no class folders"):
        class_names(tmp_path)


def test_a_scan_goes_class_by_class(picture_folder: Path) -> None:
    root = picture_folder / "train"
    images = scan(root, ("one", "two", "zero"), skip_broken=False)
    assert images.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert images.paths[:2] == (root / "one" / "0.png", root / "one" / "1.png")
    assert [path.parent.name for path in images.paths[::5]] == ["one", "two", "zero"]


def test_labels_are_places_among_all_classes(picture_folder: Path) -> None:
    images = scan(picture_folder / "val", ("four", "one", "three", "two", "zero"), skip_broken=False)
    assert images.labels.tolist() == [1] * 3 + [3] * 3 + [4] * 3


def test_an_unknown_class_is_named_with_the_nearest(picture_folder: Path) -> None:
    (picture_folder / "val" / "zero").rename(picture_folder / "val" / "zeros")
    with pytest.raises(InputError, match="'zeros'; did you mean zero"):
        scan(picture_folder / "val", ("one", "two", "zero"), skip_broken=False)


def test_an_empty_class_is_named(picture_folder: Path) -> None:
    (picture_folder / "train" / "ten").mkdir()
    with pytest.raises(InputError, match="no images in class ten of"):
        scan(picture_folder / "train", ("one", "ten", "two", "zero"), skip_broken=False)


def test_broken_files_are_left_out_and_named(
    picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = picture_folder / "train"
    (root / "one" / "2.png").write_bytes(b"")
    whole = (root / "two" / "4.png").read_bytes()
    (root / "two" / "4.png").write_bytes(whole[: len(whole) // 2])
    images = scan(root, ("one", "two", "zero"), skip_broken=True)
    assert len(images) == 13
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 5
    assert root / "one" / "2.png" not in images.paths
    told = [line for line in capsys.readouterr().err.splitlines() if "skipped:" in line]
    assert len(told) == 2
    assert str(root / "one" / "2.png") in told[0]
    assert str(root / "two" / "4.png") in told[1]


def test_broken_files_stay_unless_they_shall_be_skipped(picture_folder: Path) -> None:
    (picture_folder / "val" / "one" / "5.png").write_bytes(b"")
    assert len(scan(picture_folder / "val", ("one", "two", "zero"), skip_broken=False)) == 9


def test_a_class_of_broken_files_alone_is_empty(picture_folder: Path) -> None:
    for path in (picture_folder / "val" / "two").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no images in class two"):
        scan(picture_folder / "val", ("one", "two", "zero"), skip_broken=True)


def test_training_lies_in_train_or_in_the_root(picture_folder: Path) -> None:
    assert training_folder(picture_folder) == picture_folder / "train"
    assert training_folder(picture_folder / "val") == picture_folder / "val"


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_validation_lies_beside_train(picture_folder: Path, name: str) -> None:
    (picture_folder / "val").rename(picture_folder / name)
    assert validation_folder(picture_folder) == picture_folder / name


def test_without_a_train_folder_there_is_no_validation_folder(picture_folder: Path) -> None:
    (picture_folder / "train").rename(picture_folder / "other")
    assert validation_folder(picture_folder) is None
