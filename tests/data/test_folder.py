from __future__ import annotations

import errno
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from densenets.data.folder import class_names, image_files, scan
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


def test_class_names_that_look_the_same_are_refused(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        make(tmp_path / unicodedata.normalize(form, "café") / "0.png")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes both forms for one name")
    with pytest.raises(InputError, match=r"two class folders called .*caf\\xe9.*; merge"):
        class_names(tmp_path)


def test_names_that_differ_in_case_are_two_classes(tmp_path: Path) -> None:
    for name in ("a", "A"):
        make(tmp_path / name / "0.png")
    assert class_names(tmp_path) == ("A", "a")


@pytest.mark.parametrize(("name", "other"), [("NORMAL", "normal"), ("cafe\u0301", "café")])
def test_a_class_in_another_spelling_is_named_with_both(tmp_path: Path, name: str, other: str) -> None:
    make(tmp_path / name / "0.png")
    with pytest.raises(InputError, match=f"'{name}'; it is '{other}'"):
        scan(tmp_path, (other, "more"), skip_broken=False)


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a file; a folder of class folders is needed"):
        class_names(make(tmp_path / "picture.png"))


def test_a_folder_that_may_not_be_read_is_told(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, who may read everything.
    closed, scandir = picture_folder / "train" / "two", os.scandir

    def refusing(path: os.PathLike[str]) -> object:
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=f"the folder {closed} cannot be read: Permission denied"):
        scan(picture_folder / "train", ("one", "two", "zero"), skip_broken=False)


def test_links_that_lead_nowhere_are_no_classes(picture_folder: Path) -> None:
    root = picture_folder / "train"
    (root / "loop").symlink_to(root / "loop")
    (root / "gone").symlink_to(root / "nothing")
    (root / "three").symlink_to(root / "two")
    assert class_names(root) == ("one", "three", "two", "zero")


def test_a_link_to_a_folder_that_it_lies_in_is_no_class(picture_folder: Path) -> None:
    root = picture_folder / "train"
    for name, target in (("here", root), ("above", picture_folder), ("dot", Path())):
        (root / name).symlink_to(target)
    assert class_names(root) == ("one", "two", "zero")
