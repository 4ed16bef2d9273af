"""Reading a verb's arguments: a dataclass of options in, its instance out, or one line of what is wrong."""

from __future__ import annotations

import contextlib
import io
from typing import TypeVar, cast

from densenets.errors import InputError

Options = TypeVar("Options")


def parse(
    kind: type[Options],
    arguments: list[str],
    verb: str,
    default: Options | None = None,
    *,
    flat: bool = False,
) -> Options:
    """Read a verb's options; fields of `kind` without a default are positional.

    Args:
        kind: dataclass of the options.
        arguments: behind the verb.
        verb: as help and errors name it.
        default: an instance whose values are the defaults; None for those of `kind`.
        flat: options of nested dataclasses have no prefix, unlike those of `train`.

    Raises:
        InputError: the arguments are not the verb's, in one line.
    """
    import tyro

    printed = io.StringIO()
    try:
        # tyro prints its help to stdout, and its errors as a box to stderr.
        with contextlib.redirect_stderr(printed):
            options = tyro.cli(
                kind,
                args=arguments,
                prog=f"densenets {verb}",
                default=default,
                config=(tyro.conf.PositionalRequiredArgs, *((tyro.conf.OmitArgPrefixes,) if flat else ())),
            )
            return cast(Options, options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        # Where a dataclass refused its values, our own line says all.
        raise _refusal(end) or InputError(_one_line(printed.getvalue())) from None


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
