from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from densenets.data.folder import scan
from densenets.data.folder_listing import find_pictures, print_left_out


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2)).save(path)
    return path


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    cat, dog = make(tmp_path / "cat" / "one.png"), make(tmp_path / "dog" / "two.png")
    link(tmp_path / "cat" / "again", tmp_path / "cat")
    link(tmp_path / "cat" / "deep" / "er" / "up", tmp_path)
    link(tmp_path / "dog" / "here", Path())
    assert find_pictures(tmp_path / "cat").pictures == [cat]
    assert find_pictures(tmp_path).pictures == [cat, dog]


def test_of_two_folders_that_link_to_each_other_each_picture_is_found_once(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a" / "one.png"), make(tmp_path / "b" / "two.png")
    link(tmp_path / "a" / "other", tmp_path / "b")
    link(tmp_path / "b" / "other", tmp_path / "a")
    assert find_pictures(tmp_path).pictures == [first, second]  # by their own names


def test_a_folder_elsewhere_is_entered_once_by_its_first_link(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere" / "deep" / "far.png")
    link(tmp_path / "elsewhere" / "deep" / "back", tmp_path / "elsewhere")
    link(tmp_path / "class" / "b", tmp_path / "elsewhere")
    link(tmp_path / "class" / "a", tmp_path / "elsewhere" / "deep")
    assert find_pictures(tmp_path / "class").pictures == [tmp_path / "class" / "a" / "far.png"]


def test_a_hidden_folder_is_found_by_a_link_to_it(tmp_path: Path) -> None:
    make(tmp_path / ".store" / "one.png")
    link(tmp_path / "shown", tmp_path / ".store")
    assert find_pictures(tmp_path).pictures == [tmp_path / "shown" / "one.png"]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path / "there" / "one.png")
    link(tmp_path / "here", tmp_path / "there")
    assert find_pictures(tmp_path / "here").pictures == [tmp_path / "here" / "one.png"]


def test_links_between_classes_give_no_picture_two_labels(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        make(tmp_path / name / "one.png")
    link(tmp_path / "cat" / "dogs", tmp_path / "dog")
    link(tmp_path / "dog" / "all", tmp_path)
    images = scan(tmp_path, ("cat", "dog"), skip_broken=False)
    assert images.paths == (tmp_path / "cat" / "one.png", tmp_path / "dog" / "one.png")


def test_only_regular_files_count(tmp_path: Path) -> None:
    picture = make(tmp_path / "b.png")
    os.mkfifo(tmp_path / "a.png")  # whoever opened it would wait for ever
    link(tmp_path / "c.png", tmp_path / "nowhere.png")
    link(tmp_path / "d.png", tmp_path / "d.png")
    link(tmp_path / "e.png", Path(os.devnull))
    link(tmp_path / "f.png", picture)
    files = find_pictures(tmp_path)
    assert files.pictures == [picture, tmp_path / "f.png"]
    # A pipe; a link to nothing, one to itself, one to a device.
    assert files.left_out == {"pipes or devices": 1, "links to no file": 3}


def test_files_that_are_left_out_are_counted_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "cat" / "one.png")
    make(tmp_path / "dog" / "one.jfif.png")
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/c.heic", "dog/notes.txt", "dog/README"):
        (tmp_path / name).write_bytes(b"?")
    for name in ("cat/Thumbs.db", "cat/.DS_Store", "dog/desktop.ini", "dog/.hidden.txt"):
        (tmp_path / name).write_bytes(b"?")
    scan(tmp_path, ("cat", "dog"), skip_broken=False)
    assert capsys.readouterr().err == (
        f"{tmp_path}: left out 5 files that are no pictures that can be read: "
        "3 .heic, 1 .txt, 1 without an ending\n"
    )


def test_where_nothing_is_left_out_nothing_is_said(
    picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan(picture_folder / "train", ("one", "two", "zero"), skip_broken=False)
    assert capsys.readouterr().err == ""


def test_many_kinds_are_one_line_and_one_process_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / f"file.\n{number:02d}").write_bytes(b"?")
    left_out = find_pictures(tmp_path).left_out
    print_left_out(tmp_path, left_out)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert r"1 .\n00" in said
    assert said.endswith("22 of other kinds\n")
    monkeypatch.setenv("RANK", "1")
    print_left_out(tmp_path, left_out)
    assert capsys.readouterr().err == ""


def test_names_of_any_bytes_are_found_in_order(tmp_path: Path) -> None:
    names = [b"a\nb.png", b"a\xff.png", "猫.png".encode(), b"-.png", b"[red].PNG", b" .png"]
    for name in names:
        Image.new("L", (2, 2)).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(tmp_path / os.fsdecode(name))
    files = find_pictures(tmp_path).pictures
    assert [path.name for path in files] == sorted(os.fsdecode(name) for name in names)
