"""What the documents name is there: files, headings, options, and names of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, SOURCE, anchors, links, name_of, spans

from densenets.cli.command_options import options_of
from densenets.cli.verbs import commands

OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\b")
FOREIGN = {"--nproc-per-node", "--standalone", "--field.sub"}  # torchrun's; what stands for any field

PATH = re.compile(r"[\w./-]+\.(?:py|md|h|cpp|html|toml|txt)")


@pytest.fixture(scope="session")
def options() -> set[str]:
    """Every option of every verb, analysis and benchmark."""
    found = {"--help", "--version", *FOREIGN}
    for _, verb in commands():
        found |= {name for option in options_of(verb.command()) for name in option.names}
    for script in (ROOT / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'"(--[\w-]+)"', script.read_text()))
    assert {"--data.held-out", "--no-measure", "--bf16", "--class-name"} <= found
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_options_in_documents_exist(path: Path, options: set[str]):
    named = {option for span in spans(path) for option in OPTION.findall(span)}
    assert named <= options, sorted(named - options)


def test_options_in_help_and_errors_exist(options: set[str]):
    named: dict[str, str] = {}
    for path in (*SOURCE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= dict.fromkeys(OPTION.findall(node.value), path.name)
    assert named.keys() <= options, {name: file for name, file in named.items() if name not in options}


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_somewhere(path: Path):
    for link in links(path):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_in_documents_exist(path: Path):
    homes = (ROOT, ROOT / "docs", path.parent, SOURCE, SOURCE / "ops", SOURCE / "models")
    for span in spans(path):
        if PATH.fullmatch(span) and "/" in span:
            pattern = span.replace("NAME", "*")  # what a reader is to name
            assert any(any(home.glob(pattern)) for home in homes), span


def _code_cells(document: str, column: int) -> list[list[str]]:
    """The code in one column of a document's tables."""
    text = (ROOT / "docs" / document).read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    return [re.findall(r"`([^`]+)`", row[column]) for row in rows]


@pytest.mark.parametrize(("document", "column", "least"), [("paper.md", 3, 60), ("architecture.md", 1, 30)])
def test_code_stands_where_the_tables_say(document: str, column: int, least: int):
    code = _code_cells(document, column)
    assert sum(len(cell) for cell in code) > least
    for cell in code:
        sources = "\n".join((SOURCE / span).read_text() for span in cell if PATH.fullmatch(span))
        for span in cell:
            if not PATH.fullmatch(span):
                assert re.search(rf"\b{span.rpartition('.')[2]}\b", sources), f"{span} is not in {cell}"
