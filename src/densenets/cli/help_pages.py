"""The pages of help above the verbs' own: the first five commands, all verbs, the members of a group."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from densenets.cli.verbs import SECTIONS, VerbGroup

_TITLE = "Densely connected convolutional networks without their drawbacks."
_WIDEST = 100  # columns of a text
_NARROW = 60  # columns below which a verb's help stands under its name

# What most people need, in the order in which they need it.
_FIRST_COMMANDS = (
    ("train digits", "train a network on real handwritten digits, in about a minute"),
    ("evaluate runs/digits", "its error rates, class by class"),
    ("report runs/digits", "a page for the browser: result, mistakes, network, cost"),
    ("train finetune --data.root FOLDER", "train on your own pictures, a folder a class"),
    ("predict runs/finetune PICTURE ...", "what that network sees in pictures"),
)


def first_page() -> str:
    """The commands that most people need, each as an example."""
    rows = [(f"densenets {command}", help_line) for command, help_line in _FIRST_COMMANDS]
    end = "densenets --help lists all verbs; densenets VERB --help shows a verb's options."
    return "\n".join((*_paragraph(_TITLE), "", *_table(rows), "", *_paragraph(end)))


def all_verbs() -> str:
    """Every verb, by what it is for."""
    lines = ["usage: densenets VERB [...]", "", *_paragraph(_TITLE)]
    for section, verbs in SECTIONS.items():
        lines += ["", f"{section}:", *_table((f"{verb.name} {verb.arguments}", verb.help) for verb in verbs)]
    end = "densenets VERB --help shows a verb's options; densenets --version the versions."
    return "\n".join((*lines, "", *_paragraph(end)))


def group_page(group: VerbGroup) -> str:
    """What may stand behind a verb whose first argument decides what its options are."""
    usage = _paragraph(f"usage: densenets {group.name} {group.arguments} [...]")
    rows = _table((f"{verb.name} {verb.arguments}", verb.help) for verb in group.members)
    return "\n".join((*usage, "", *rows, *([""] if rows else []), *_paragraph(group.more)))


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Names and their help in two columns, or the help below the name on a narrow terminal."""
    rows = list(rows)
    left = max((len(name) for name, _ in rows), default=0) + 4
    narrow = _width() < _NARROW or left > _width() / 2
    lines: list[str] = []
    for name, help_line in rows:
        if narrow:
            lines.append(f"  {name}".rstrip())
        indent = " " * (6 if narrow else left)
        wrapped = textwrap.wrap(
            help_line, _width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        if not narrow:
            wrapped[0] = f"  {name:<{left - 2}}{wrapped[0][left:]}"
        lines += wrapped
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), break_on_hyphens=False)


def _width() -> int:
    return min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
