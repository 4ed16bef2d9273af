from __future__ import annotations

import csv
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from densenets.errors import InputError
from densenets.files import (
    exclusive,
    json_text,
    read_json,
    read_json_lines,
    write_atomically,
    write_bytes,
    write_csv,
    write_json,
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with something in it that must not be lost."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(old: Path) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"n")
        file.flush()
        assert old.read_bytes() == b"old"  # what a reader sees meanwhile
        file.write(b"ew")

    write_atomically(old, write)
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["file.bin"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=f"the disk is full: could not write {old}"):
        write_bytes(old, b"new")
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file.bin"]


def test_a_full_disk_shows_through_torchs_zip_writer(old: Path) -> None:
    def write(file: IO[bytes]) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    with pytest.raises(InputError, match=f"could not write {old}: the disk is full"):
        write_atomically(old, write)
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), OSError(errno.EIO, "a bug")])
def test_any_other_error_passes_and_leaves_the_old_file(old: Path, error: Exception) -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error), match="a bug") as caught:
        write_atomically(old, write)
    assert not isinstance(caught.value, InputError)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file.bin"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_named(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)  # root may write everywhere
    with pytest.raises(InputError, match=f"cannot write {old}"):
        write_bytes(old, b"new")


def test_a_file_where_a_folder_should_be_is_named(old: Path) -> None:
    with pytest.raises(InputError, match=f"cannot write {old / 'report.json'}"):
        write_bytes(old / "report.json", b"new")
    assert old.read_bytes() == b"old"


def test_a_folder_where_a_file_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=f"cannot write {tmp_path / 'results'}"):
        write_bytes(tmp_path / "results", b"new")
    assert names(tmp_path) == ["results"]


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"name": "Zürich 猫", "numbers": [1, 2.5, None]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "Zürich 猫" in (tmp_path / "value.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\x00"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.json is not readable as JSON"):
        read_json(tmp_path / "broken.json")


def test_half_a_character_is_written_as_jsons_escape(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"name": "caf\udce9"})  # a file's name in Latin-1
    assert read_json(tmp_path / "value.json") == {"name": "caf\udce9"}


def test_only_a_last_line_may_be_half_written(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_json_lines(path) == []
    for rest in (b"", b'{"b": ', b'{"b"\n', b"\0\0\0"):
        path.write_bytes(b'{"a": 1}\n' + rest)
        assert read_json_lines(path) == [{"a": 1}], rest
    path.write_bytes(b'{"a": 1}\n{"b"\n{"c": NaN}\n')
    with pytest.raises(InputError, match=r"line 2 of .*lines\.jsonl is not readable as JSON"):
        read_json_lines(path)
    path.write_bytes(b'{"c": NaN}\n')
    assert read_json_lines(path) == [{"c": None}]  # as older versions wrote what was not a number
    path.write_bytes(b"[1]\n{}\n")
    with pytest.raises(InputError, match=r"line 1 of .*lines\.jsonl"):
        read_json_lines(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=f"{name} is not a file"):
            read_json(tmp_path / name)


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"there is no file {tmp_path / 'gone.json'}"):
        read_json(tmp_path / "gone.json")


def test_a_folder_is_held_by_one_and_then_free(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with exclusive(folder):
        with pytest.raises(InputError, match=f"{folder} is in use by another process"), exclusive(folder):
            pass
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(folder):
        pass


def test_an_error_lets_go_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive(tmp_path):
        raise ValueError("inside")
    with exclusive(tmp_path):
        pass


def test_a_folder_below_a_file_cannot_be_held(old: Path) -> None:
    with pytest.raises(InputError, match="cannot write"), exclusive(old / "run"):
        pass


def test_a_file_is_no_folder_to_hold(old: Path) -> None:
    with pytest.raises(InputError, match=f"{old} is a file; name a folder with --out"), exclusive(old):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from densenets.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_lets_go_of_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(InputError, match="in use by another process"), exclusive(tmp_path):
                pass
        finally:
            holder.kill()  # SIGKILL, which no process can answer
            holder.wait()
    with exclusive(tmp_path):
        pass


def test_a_table_keeps_what_its_cells_hold(tmp_path: Path) -> None:
    rows = [{"name": 'a "b", c', "value": 1.5}, {"name": "line\nbreak", "value": None}]
    write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"name": 'a "b", c', "value": "1.5"},
            {"name": "line\nbreak", "value": ""},
        ]


def test_what_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    value = {"loss": math.nan, "best": [math.inf, (-math.inf, 1.5)], "deep": {"text": "NaN", "none": None}}
    finite = {"loss": None, "best": [None, [None, 1.5]], "deep": {"text": "NaN", "none": None}}
    write_json(tmp_path / "value.json", value)
    for text in (json_text(value), (tmp_path / "value.json").read_text(encoding="utf-8")):
        assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) == finite


def test_a_name_of_any_bytes_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff \n") + "猫"
    write_json(tmp_path / "value.json", {"path": name})
    assert read_json(tmp_path / "value.json") == {"path": name}
    assert json.loads(json_text(name).encode("ascii")) == name


def test_a_table_of_names_of_any_bytes_is_utf8(tmp_path: Path) -> None:
    write_csv(tmp_path / "table.csv", [{"path": os.fsdecode(b"caf\xe9, 1\n")}])
    assert (tmp_path / "table.csv").read_bytes() == b'path\n"caf\\udce9, 1\n"\n'
