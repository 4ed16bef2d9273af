"""What the documents and docstrings of this repository hold: code, links and headings.

A document is a Markdown file, or a notebook, of which the Markdown cells are read here.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "densenets"
NOTEBOOKS = tuple(sorted(path for path in (ROOT / "docs").rglob("*.ipynb") if "_build" not in path.parts))
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    *NOTEBOOKS,
)

_MARK = re.compile(r"<!-- first work only: (?P<command>.+?) \((?P<reason>[^()]+)\) -->")
_DIRECTIVE = re.compile(r"\{(?P<name>[\w:-]+)\}")  # what stands behind the fence of one of MyST's
_CODE_DIRECTIVES = {"code", "code-block", "code-cell", "sourcecode"}
_NO_MARKDOWN = {"eval-rst", "include", "toctree"}  # their content is no Markdown
_SECTIONS = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        place: the file and the line in it, of a notebook's Markdown.
        language: what stands behind the fence; "" of an indented block.
        text: the code.
        marked: the beginnings of the commands that a test takes to their first work alone, and why.
    """

    place: str
    language: str
    text: str
    marked: tuple[tuple[str, str], ...]


def name_of(path: Path) -> str:
    """The name of a document below the root of the repository, as in "docs/start.md"."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def blocks(path: Path) -> list[Block]:
    """All code blocks of a document, with the marks directly before them."""
    code_blocks: list[Block] = []
    comments: list[str] = []
    for token in _tokens(path):
        if token.type == "html_block":
            comments.append(token.content)
            continue
        marked = _MARK.findall("".join(comments))
        said = sum("first work" in line for line in "".join(comments).splitlines())
        assert said == len(marked), f"{path.name}: a mark that cannot be read in {comments}"
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            place = f"{name_of(path)}:{token.map[0] + 1}"
            code_blocks.append(Block(place, token.info.strip(), token.content, tuple(marked)))
        else:
            assert not marked, f"{path.name}: the mark {marked} stands before no block"
        comments.clear()
    return code_blocks


def prompted(text: str) -> list[str]:
    """The lines of a console that somebody typed, behind the prompt "$ "."""
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def spans(path: Path) -> list[str]:
    """The code in the running text and the tables of a document."""
    return [child.content for child in _inline(path) if child.type == "code_inline"]


def links(path: Path) -> list[str]:
    """Where the links and images of a document lead."""
    places = [child.attrGet("href") or child.attrGet("src") for child in _inline(path)]
    return [str(place) for place in places if place]


def anchors(path: Path) -> set[str]:
    """What `#...` can name in a document, made of its headings as GitHub does."""
    tokens, seen = _tokens(path), Counter[str]()
    names = set()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            words = "".join(child.content for child in heading.children or ())
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return names


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """The name and the text of every docstring of a Python file, fields' ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", ())
        for number, statement in enumerate(body if isinstance(body, list) else ()):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                name = getattr(node, "name", path.stem) + (f".{number}" if number else "")
                yield name, inspect.cleandoc(statement.value.value)


def examples(docstring: str) -> list[str]:
    """The indented blocks of a docstring that are no entries of a section such as "Args:"."""
    code_blocks = []
    section = False
    for paragraph in docstring.split("\n\n"):
        section = section or bool(_SECTIONS.match(paragraph))
        if not section and all(line.startswith("    ") for line in paragraph.splitlines()):
            code_blocks.append(textwrap.dedent(paragraph))
    return code_blocks


def _tokens(path: Path) -> list[Token]:
    return list(_read_directives(_parse(_markdown(path)), path))


def _parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def _markdown(path: Path) -> str:
    """The text of a Markdown file, or of a notebook's Markdown cells."""
    text = path.read_text()
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def _read_directives(tokens: Iterable[Token], path: Path) -> Iterator[Token]:
    """The tokens, with its content in the place of each of MyST's directives: ```{grid} begins no code."""
    for token in tokens:
        directive = _DIRECTIVE.match(token.info) if token.type == "fence" else None
        if directive is None:
            yield token
            continue
        assert token.map is not None
        place = f"{name_of(path)}:{token.map[0] + 1}"
        assert directive["name"] not in _CODE_DIRECTIVES, f"{place}: code stands in a fence with its language"
        inner = [] if directive["name"] in _NO_MARKDOWN else _parse(token.content)
        for content in inner:
            first = token.map[0] + 1
            content.map = content.map and [line + first for line in content.map]
        yield from _read_directives(inner, path)


def _inline(path: Path) -> Iterator[Token]:
    for token in _tokens(path):
        yield from token.children or ()
