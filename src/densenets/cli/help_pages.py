"""The pages of help: the first five commands, all verbs, the members of a group, a verb's options.

Plain text, as wide as the terminal, on narrow ones in one column.
"""

from __future__ import annotations

import itertools
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from densenets.cli.command import Command
from densenets.cli.command_options import Option, options_of, positional_words
from densenets.cli.verbs import SECTIONS, Verb, VerbGroup

_TITLE = "Densely connected convolutional networks without their drawbacks."
_WIDEST = 100  # columns of a text
_NARROW = 60  # columns below which a help line stands under its name
_LONGEST_NAME = 30  # columns of a name with its help beside it

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
        lines += [
            "",
            *_paragraph(f"{section}:"),
            *_table((f"{verb.name} {verb.arguments}", verb.help) for verb in verbs),
        ]
    end = "densenets VERB --help shows a verb's options; densenets --version the versions."
    return "\n".join((*lines, "", *_paragraph(end)))


def group_page(group: VerbGroup) -> str:
    """What may stand behind a verb whose first argument decides what its options are."""
    usage = _paragraph(f"usage: densenets {group.name} {group.arguments} [...]")
    rows = _table((f"{verb.name} {verb.arguments}", verb.help) for verb in group.members)
    return "\n".join((*usage, "", *rows, *([""] if rows else []), *_paragraph(group.more)))


def verb_page(verb: Verb, command: Command[Any]) -> str:
    """What a verb takes: what stands behind it, and its options, those of a nested dataclass together."""
    options = options_of(command)
    usage = f"usage: densenets {command.title} {verb.arguments}".rstrip() + " [OPTIONS]"
    lines = [*_paragraph(usage), "", *_paragraph(f"{verb.help[0].upper()}{verb.help[1:]}.")]
    words = positional_words(verb.arguments)
    positional = [option for option in options if not option.names]
    if positional:
        lines += ["", *_table((word, option.help) for word, option in zip(words, positional, strict=True))]
    named = sorted((option for option in options if option.names), key=_group_of)
    for group, members in itertools.groupby(named, _group_of):
        lines += ["", f"{group} options:".strip(), *_table(map(_row, members))]
    return "\n".join(lines)


def _group_of(option: Option) -> str:
    """Of `--training.epochs` "training"; "" of what lies in no nested dataclass, or has no prefix."""
    return option.names[0].removeprefix("--").rpartition(".")[0]


def _row(option: Option) -> tuple[str, str]:
    default = {None: "(needed)", "": ""}.get(option.default, f"(default: {option.default})")
    return f"{option.name} {option.value}".rstrip(), f"{option.help} {default}".rstrip()


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Names and their help in two columns; the help of a long name, or on a narrow terminal, below it."""
    rows = list(rows)
    left = max((len(name) for name, _ in rows if len(name) <= _LONGEST_NAME), default=0) + 4
    narrow = _width() < _NARROW or left > _width() / 2
    indent = " " * (6 if narrow else left)
    lines: list[str] = []
    for name, help_line in rows:
        wrapped = textwrap.wrap(
            help_line, _width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
        if narrow or len(name) > _LONGEST_NAME or not wrapped:
            lines += [f"  {name}".rstrip(), *wrapped]
        else:
            lines += [f"  {name:<{left - 2}}{wrapped[0][left:]}", *wrapped[1:]]
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _width(), break_on_hyphens=False)


def _width() -> int:
    return min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
