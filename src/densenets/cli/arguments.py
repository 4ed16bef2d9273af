"""Reading a verb's arguments: a dataclass of options in, its instance out, or one line of what is wrong."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from densenets.errors import InputError

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Options]):
    """What a verb does, and what options it takes.

    Attributes:
        title: as help and errors name it, such as "train digits".
        options: dataclass of the options; fields without a default are positional.
        call: does it.
        default: an instance whose values are the defaults; None for those of `options`.
        flat: options of nested dataclasses have no prefix, unlike those of `train`.
    """

    title: str
    options: type[Options]
    call: Callable[[Options], None]
    default: Options | None = None
    flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option or a positional argument, as the help shows it.

    Attributes:
        field: of the options, with those that it lies in, such as "training.epochs".
        names: such as ("--measure", "--no-measure"); none of a positional argument.
        metavar: placeholder of its value, such as "INT" or "{csv,json}"; "" of a switch.
        choices: the values that it takes; none where they are open.
        default: as it is typed; None of what is required.
        help: what it is for.
    """

    field: str
    names: tuple[str, ...]
    metavar: str
    choices: tuple[str, ...]
    default: str | None
    help: str


def parse(command: Command[Options], arguments: list[str]) -> Options:
    """Read a verb's options from the arguments behind it.

    Raises:
        InputError: the arguments are not the verb's, in one line.
    """
    import tyro

    printed = io.StringIO()
    try:
        # tyro prints its help to stdout, and its errors as a box to stderr.
        with contextlib.redirect_stderr(printed):
            options = tyro.cli(
                command.options,
                args=arguments,
                prog=f"densenets {command.title}",
                default=command.default,
                config=_markers(command),
            )
            return cast(Options, options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        # Where a dataclass refused its values, our own line says all.
        raise _refusal(end) or InputError(_one_line(printed.getvalue())) from None


def options_of(command: Command[Any]) -> list[Option]:
    """All that a command takes but --help, in the order of its help."""
    import tyro

    with warnings.catch_warnings():
        # It goes with tyro 2; until then nothing else says what options a dataclass has.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(
            command.options,
            prog=f"densenets {command.title}",
            default=command.default,
            config=_markers(command),
        )
    return [
        Option(
            field=action.dest.replace("-", "_"),
            names=tuple(action.option_strings),
            metavar=str(action.metavar or ""),
            choices=tuple(map(str, action.choices or ())),
            default=None if action.help.endswith("(required)") else _default(action.help),
            help=_DEFAULT.sub("", action.help),
        )
        for action in parser._actions
        if action.help and "--help" not in action.option_strings
    ]


_DEFAULT = re.compile(r" *\((?:default: ([^()]*(?:\([^()]*\)[^()]*)*)|required)\)$")


def _default(text: str) -> str:
    """The default that ends an option's help."""
    match = _DEFAULT.search(text)
    return (match[1] or "").strip() if match else ""


def _markers(command: Command[Any]) -> tuple[Any, ...]:
    import tyro

    return (tyro.conf.PositionalRequiredArgs, *((tyro.conf.OmitArgPrefixes,) if command.flat else ()))


def _refusal(error: BaseException | None) -> InputError | None:
    """The refusal of a dataclass among the errors that led to this one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _one_line(box: str) -> str:
    """The message of tyro's box in one line: its first section, and the options it proposes."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ")
        if text.startswith(("───", "---")):
            sections.append([])
        elif text and not text.startswith(("╭", "╰")):
            sections[-1].append(text)
    if "╭" not in box:
        # Without Unicode the box's title is a section of its own.
        sections.pop(0)
    message = " ".join(sections[0])
    proposed = [
        text.split()[0].rstrip(",")
        for section in sections[1:]
        for text in section
        if text.startswith("--") and section[0].startswith("Perhaps")
    ]
    return message + (f"; did you mean {' or '.join(proposed[:3])}?" if proposed else "")
