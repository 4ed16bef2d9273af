"""Reading a verb's arguments: a dataclass of options in, its instance out, or one line of what is wrong."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, cast

from densenets.cli.command import Command, Options
from densenets.cli.command_options import Option, options_of
from densenets.errors import InputError, did_you_mean, nearest_names


def parse(command: Command[Options], arguments: Sequence[str]) -> Options:
    """Read a verb's options from the arguments behind it.

    Raises:
        InputError: the arguments are not the verb's, in one line.
    """
    import tyro

    printed = io.StringIO()
    try:
        # tyro prints its errors as a box to stderr.
        with contextlib.redirect_stderr(printed):
            options = tyro.cli(
                command.options,
                args=arguments,
                prog=f"densenets {command.title}",
                default=command.default,
                config=command.markers,
            )
            return cast(Options, options)
    except SystemExit as end:
        # Where a dataclass refused its values, its own line says all.
        refusal = _refusal(end) or _misspelled(command, arguments)
        raise refusal or InputError(_message(command, printed.getvalue())) from None


def _refusal(error: BaseException | None) -> InputError | None:
    """The refusal of a dataclass among the errors that led to this one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__context__
    return error


def _misspelled(command: Command[Any], arguments: Sequence[str]) -> InputError | None:
    """The error for the first option that there is not, or the first value that an option does not take."""
    named = {name: option for option in options_of(command) for name in option.names}
    option = None  # whose values follow
    for argument in arguments:
        value = argument
        if argument.startswith("--"):
            name, _, value = argument.partition("=")
            option = named.get(name.replace("_", "-"))
            if option is None:
                return _unknown_option(command, name, list(named))
        if option and value:
            if refusal := _refused_value(option, value):
                return refusal
            if not option.value.endswith("..."):
                option = None
    return None


def _unknown_option(command: Command[Any], name: str, known: list[str]) -> InputError:
    # `--epochs` means `--training.epochs`.
    ending = name.removeprefix("--")
    nested = [other for other in known if other.endswith(f".{ending}")]
    hint = did_you_mean(nested or nearest_names(name, known, cutoff=0.7))
    hint = hint or f"densenets {command.title} --help lists the options"
    return InputError(f"unknown option '{name}'; {hint}")


def _refused_value(option: Option, value: str) -> InputError | None:
    name = option.names[0]
    if option.choices and value not in option.choices:
        *most, last = option.choices
        nearest = nearest_names(value, option.choices)[:1]
        hint = f"; {did_you_mean(nearest)}" if nearest else ""
        return InputError(f"{name} must be {', '.join(most)} or {last}, got '{value}'{hint}")
    number = _NUMBERS.get(option.value.removesuffix(" ..."))
    if number is None or value == "None":  # which is a value where it is the default
        return None
    read, what = number
    try:
        read(value)
    except ValueError:
        return InputError(f"{name} must be {what}, got '{value}'")
    return None


_NUMBERS = {"INT": (int, "an integer"), "FLOAT": (float, "a number")}


def _message(command: Command[Any], box: str) -> str:
    """The message of tyro's box in one line: its first section."""
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
    if missing := _MISSING.fullmatch(message):
        what = missing["help"]
        return f"missing: {what[0].lower()}{what[1:]}; densenets {command.title} --help shows what is needed"
    return message.replace("Unrecognized options:", "unexpected argument:")


# tyro's words for a positional argument that is not there: its placeholder, and its help.
_MISSING = re.compile(r"Missing from .*?: \S+ (?P<help>.*?)\.? \(required\)")
