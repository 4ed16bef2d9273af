"""What README and docs name is there: files, headings, options, and names of the code."""

from __future__ import annotations

import ast
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, SOURCE, anchors, blocks, links, spans

from densenets.cli import analyze as cli_analyze
from densenets.cli import main as cli

OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\b")
FOREIGN = {"--nproc-per-node", "--standalone", "--field.sub"}  # torchrun's; what stands for any field

PATH = re.compile(r"[\w./-]+\.(?:py|md|h|cpp|html|toml|txt)")


@pytest.fixture(scope="session")
def options() -> set[str]:
    """Every option of every verb, analysis and benchmark."""
    verbs = [[verb] for verb in cli._VERBS if verb not in ("train", "analyze")]
    verbs += [["train", "digits"], *(["analyze", name] for name in cli_analyze._ANALYSES)]
    found = {"--help", "--version", *FOREIGN}
    for verb in verbs:
        with redirect_stdout(StringIO()) as printed, pytest.raises(SystemExit):
            cli.run([*verb, "--help"])
        # What an option is for stands further to the right.
        for line in re.findall(r"^(?:│ |  )(--.*?)(?:  |│|$)", printed.getvalue(), re.MULTILINE):
            found |= set(OPTION.findall(line))
    for script in (ROOT / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'"(--[\w-]+)"', script.read_text()))
    assert {"--data.held-out", "--no-measure", "--bf16", "--class-name"} <= found
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
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


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for link in links(path):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_in_documents_exist(path: Path):
    homes = (ROOT, ROOT / "docs", SOURCE, SOURCE / "ops", SOURCE / "models")
    for span in spans(path):
        if PATH.fullmatch(span) and "/" in span:
            assert any((home / span).exists() for home in homes), span


def test_code_stands_where_the_paper_to_code_table_says():
    text = (ROOT / "docs" / "paper-to-code.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    code = [re.findall(r"`([^`]+)`", row[2]) for row in rows]
    assert sum(len(cell) for cell in code) > 40
    for cell in code:
        sources = "\n".join((SOURCE / span).read_text() for span in cell if PATH.fullmatch(span))
        for span in cell:
            if not PATH.fullmatch(span):
                assert re.search(rf"\b{span.rpartition('.')[2]}\b", sources), f"{span} is not in {cell}"


def _tree() -> dict[str, str]:
    """Paths of README's tree, from the checkout, and what is said of each."""
    (text,) = (
        block.text for block in blocks(ROOT / "README.md") if block.text.startswith("src/densenets/\n")
    )
    entries: dict[str, str] = {}
    last = ""
    for line in text.splitlines()[1:]:
        if not line.startswith("   "):  # a line that goes on otherwise
            name, _, said = line.strip().partition(" ")
            last = f"src/densenets/{name}" if line.startswith("  ") else name
            entries[last] = ""
            line = said
        entries[last] += f" {line.strip()}"
    return entries


def test_the_tree_names_what_is_there():
    assert not [name for name in _tree() if not (ROOT / name).exists()]


def test_the_tree_leaves_no_source_out():
    tree = _tree()
    folders = tuple(name for name in tree if name.endswith("/"))
    sources = (*SOURCE.rglob("*"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").glob("*.md"))
    missing = []
    for path in sources:
        name = path.relative_to(ROOT).as_posix()
        is_source = path.suffix in (".py", ".cpp", ".h", ".md") and path.name != "__init__.py"
        if is_source and name not in tree and not name.startswith(folders) and not _is_listed(name, tree):
            missing.append(name)
    assert not missing


def _is_listed(name: str, tree: dict[str, str]) -> bool:
    """Whether a file stands in the line of another one of its folder: `reuse.py   figures: reuse, cost`."""
    folder, _, file = name.rpartition("/")
    stem = re.sub("^kernels_.*", "kernels", file.partition(".")[0])  # a kernels_*.cpp an instruction set
    said = [text for other, text in tree.items() if other.rpartition("/")[0] == folder]
    return any(file in text or re.search(rf"[:;].*\b{stem}(\b|_)", text) for text in said)
