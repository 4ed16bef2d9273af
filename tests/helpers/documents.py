"""What the Markdown files and docstrings of this repository hold: code, links and headings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "densenets"
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_MARK = re.compile(r"<!-- first work only: (?P<command>.+?) \((?P<reason>[^()]+)\) -->")
_SECTIONS = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        place: the file and the line in it.
        language: what stands behind the fence; "" of an indented block.
        text: the code.
        marked: the beginnings of the commands that a test takes to their first work alone, and why.
    """

    place: str
    language: str
    text: str
    marked: tuple[tuple[str, str], ...]


def blocks(path: Path) -> list[Block]:
    """All code blocks of a Markdown file, with the marks directly before them."""
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
            place = f"{path.name}:{token.map[0] + 1}"
            code_blocks.append(Block(place, token.info.strip(), token.content, tuple(marked)))
        else:
            assert not marked, f"{path.name}: the mark {marked} stands before no block"
        comments.clear()
    return code_blocks


def spans(path: Path) -> list[str]:
    """The code in the running text and the tables of a Markdown file."""
    return [child.content for child in _inline(path) if child.type == "code_inline"]


def links(path: Path) -> list[str]:
    """Where the links and images of a Markdown file lead."""
    places = [child.attrGet("href") or child.attrGet("src") for child in _inline(path)]
    return [str(place) for place in places if place]


def anchors(path: Path) -> set[str]:
    """What `#...` can name in a Markdown file, made of its headings as GitHub does."""
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
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def _inline(path: Path) -> Iterator[Token]:
    for token in _tokens(path):
        yield from token.children or ()
