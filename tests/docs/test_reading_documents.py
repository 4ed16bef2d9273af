"""How the documents are read: nothing that could be run is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import FirstWork, is_command, reaches_first_work, read_commands, run
from documents import anchors, blocks, docstrings, examples, spans


def written(folder: Path, text: str) -> Path:
    path = folder / "some.md"
    path.write_text(text)
    return path


def test_blocks_of_every_kind_are_found(tmp_path: Path):
    text = "a\n\n    indented\n\n- b\n\n  ```sh\n  in a list\n  ```\n\n~~~python\ntildes\n~~~\n\n"
    text += "> ```\n> quoted\n> ```\n"
    found = [(block.language, block.text) for block in blocks(written(tmp_path, text))]
    assert found == [("", "indented\n"), ("sh", "in a list\n"), ("python", "tildes\n"), ("", "quoted\n")]


def test_marks_belong_to_the_next_block(tmp_path: Path):
    mark = "<!-- first work only: densenets train a (hours) -->\n"
    path = written(tmp_path, f"{mark}{mark.replace('train a', 'train b')}```sh\nx\n```\n\n```sh\ny\n```\n")
    first, second = blocks(path)
    assert first.marked == (("densenets train a", "hours"), ("densenets train b", "hours"))
    assert not second.marked


@pytest.mark.parametrize(
    "text",
    [
        "<!-- first work only: no reason -->\n```sh\nx\n```\n",
        "<!-- first work only: densenets train (hours) -->\n\nText between.\n\n```sh\nx\n```\n",
    ],
)
def test_a_mark_that_marks_nothing_is_refused(text: str, tmp_path: Path):
    with pytest.raises(AssertionError, match="mark"):
        blocks(written(tmp_path, text))


def test_anchors_are_those_of_github(tmp_path: Path):
    path = written(tmp_path, "# The `C++` library, 2\n\n## Cost\n\n## Cost\n")
    assert anchors(path) == {"the-c-library-2", "cost", "cost-1"}


def test_a_span_over_two_lines_is_one_command(tmp_path: Path):
    assert spans(written(tmp_path, "`densenets train\ndigits`\n")) == ["densenets train digits"]


def test_commands_are_read_as_a_shell_reads_them(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    text = "densenets x 'y z'  # no\ndensenets p; make q\ndensenets runs/*/ \\\n    --more\n"
    assert read_commands(text) == [
        ["densenets", "x", "y z"],
        ["densenets", "p"],
        ["make", "q"],
        ["densenets", "runs/a/", "runs/b/", "--more"],
    ]
    with pytest.raises(AssertionError, match="not found"):
        read_commands("rm -rf /tmp/nothing")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("densenets models", True),
        ("python benchmarks/data.py", True),
        ("densenets", False),
        ("densenets.load", False),
        ("makes no difference", False),
    ],
)
def test_what_a_command_is(text: str, answer: bool):
    assert is_command(text) is answer


def test_long_work_is_stopped_where_it_begins(world: Path):
    train = ["densenets", "train", "digits", "--out", "runs/new"]
    assert reaches_first_work(train)
    assert not (world / "runs/new").exists()
    assert not reaches_first_work(["densenets", "summary", "densenet-bc-10-4"])
    for wrong in (
        "densenets train digit",
        "densenets train digits --out x --data.roots y",
        "densenets trian x",
    ):
        with pytest.raises(AssertionError, match="ended with 2"):
            reaches_first_work(wrong.split())
    with pytest.raises(AssertionError, match="ended with 2"):
        reaches_first_work(["densenets", "train", "cifar10-quick", "--data.root", "nowhere"])
    with pytest.raises(FirstWork):
        run(["make", "test"])


def test_examples_are_indented_blocks_outside_of_sections(tmp_path: Path):
    source = (
        '"""First.\n\n    import x\n    y\n\nMore.\n\nArgs:\n    a: b\n\n    c\n"""\nf = 1\n"""A field."""\n'
    )
    path = tmp_path / "m.py"
    path.write_text(source)
    (_, module), (_, field) = docstrings(path)
    assert examples(module) == ["import x\ny"]
    assert field == "A field."
