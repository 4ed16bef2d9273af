"""The options of a verb, as its help, its completions and the reference of commands show them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

from densenets.cli.command import Command


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option or a positional argument.

    Attributes:
        field: of the dataclass, with those that it lies in, such as "training.epochs".
        names: such as ("--measure", "--no-measure"); none of a positional argument.
        value: placeholder of its value, such as "INT", "PATH ..." or "{csv,json}"; "" of a switch.
        choices: the values that it takes; none where they are open.
        default: as it is typed, "" of an empty one, "on" or "off" of a switch; None of what is required.
        help: what it is for.
    """

    field: str
    names: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    default: str | None
    help: str

    @property
    def name(self) -> str:
        """Its first name, with that of a switch's opposite in brackets: "--[no-]measure"."""
        if len(self.names) == 1:
            return self.names[0]
        prefix, dot, last = self.names[0].removeprefix("--").rpartition(".")
        return f"--{prefix}{dot}[no-]{last}"


def options_of(command: Command[Any]) -> list[Option]:
    """All that a command takes but --help, in the order of its dataclass."""
    import tyro

    with warnings.catch_warnings():
        # It goes with tyro 2; until then nothing else says what options a dataclass has.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(
            command.options,
            prog=f"densenets {command.title}",
            default=command.default,
            config=command.markers,
        )
    return [
        Option(
            field=action.dest.replace("-", "_"),
            names=tuple(action.option_strings),
            value=_value(str(action.metavar or "")),
            choices=tuple(map(str, action.choices or ())),
            default=None if action.help.endswith("(required)") else _default(action.help),
            help=_DEFAULT.sub("", action.help),
        )
        for action in parser._actions
        if action.help and "--help" not in action.option_strings
    ]


def positional_words(arguments: str) -> list[str]:
    """Placeholders of the positional arguments, of "RUN FILE ..." "RUN" and "FILE ..."."""
    return [found.group() for found in re.finditer(r"\S+( \.\.\.)?", arguments)]


# tyro's placeholders of several values, and of an optional value.
_SEVERAL = re.compile(r"\[+(?P<value>[^\s\[\]]+) \[.*\]+")
_OPTIONAL = "{None}|"
# What ends an option's help.
_DEFAULT = re.compile(r" *\((?:default: ([^()]*(?:\([^()]*\)[^()]*)*)|required)\)$")


def _value(metavar: str) -> str:
    several = _SEVERAL.fullmatch(metavar)
    return f"{several['value']} ..." if several else metavar.removeprefix(_OPTIONAL)


def _default(text: str) -> str:
    match = _DEFAULT.search(text)
    default = (match[1] or "").strip() if match else ""
    return {"None": "", "''": "", "True": "on", "False": "off"}.get(default, default)
