"""How the documents are read: nothing that could be run is passed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import FirstWork, is_command, reaches_first_work, read_commands, run
from documents import (
    DOCUMENTS,
    NOTEBOOKS,
    anchors,
    blocks,
    docstrings,
    examples,
    links,
    name_of,
    prompted,
    spans,
)


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


def test_documents_lie_in_folders_too():
    names = {name_of(path) for path in DOCUMENTS}
    assert {
        "README.md",
        "CONTRIBUTING.md",
        "docs/paper.md",
        "docs/how-to/finetune.md",
        "docs/tutorial.ipynb",
    } <= names
    assert set(NOTEBOOKS) < set(DOCUMENTS)


def test_directives_are_read_as_the_markdown_in_them(tmp_path: Path):
    text = "````{tab-set}\n```{tab-item} A\n:sync: a\n\n~~~sh\nx\n~~~\n\n[b](c.md) `d`\n```\n````\n"
    path = written(tmp_path, text + "```{toctree}\n[no](link.md)\n```\n```{eval-rst}\n    x\n```\n")
    assert [(block.place, block.language, block.text) for block in blocks(path)] == [
        ("some.md:5", "sh", "x\n")
    ]
    assert links(path) == ["c.md"]
    assert spans(path) == ["d"]


def test_code_that_a_directive_hides_is_refused(tmp_path: Path):
    with pytest.raises(AssertionError, match="2: code stands in a fence"):
        blocks(written(tmp_path, "\n```{code-block} sh\nx\n```\n"))


def test_of_a_notebook_the_markdown_cells_are_read(tmp_path: Path):
    cells = [
        ("markdown", ["# A b\n", "[c](d.md)"]),
        ("code", ["`e`"]),
        ("markdown", ["```sh\n", "x\n", "```"]),
    ]
    path = tmp_path / "some.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}))
    assert anchors(path) == {"a-b"}
    assert links(path) == ["d.md"]
    assert not spans(path)
    assert [(block.language, block.text) for block in blocks(path)] == [("sh", "x\n")]


def test_what_was_typed_at_a_console():
    assert prompted("$ densenets models\n name\n$ make x\n") == ["densenets models", "make x"]


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
