"""Reading a verb's arguments: a dataclass of options in, its instance out, or one line of what is wrong."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TypeVar, cast

from densenets.errors import InputError

Options = TypeVar("Options")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|KB|MB|GB|B)", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse(kind: type[Options], arguments: list[str], verb: str, default: Options | None = None) -> Options:
    """Read a verb's options; fields of `kind` without a default are positional.

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
                config=(tyro.conf.PositionalRequiredArgs,),
            )
            return cast(Options, options)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise InputError(_one_line(printed.getvalue())) from None


def _one_line(box: str) -> str:
    """What tyro's box of several lines says: its first section, and the options it proposes."""
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
    # Where a dataclass refused its values, our own line says all.
    message = re.sub(r"^Error parsing \S+: (?=.* (cannot be|must be|unknown|did you mean|need))", "", message)
    return message + (f"; did you mean {' or '.join(proposed[:3])}?" if proposed else "")


def read_shape(text: str) -> list[int]:
    """Channels and sides of a text such as 3x32x32.

    Raises:
        InputError: it is no shape.
    """
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) for size in sizes) or not 2 <= len(sizes) <= 4:
        raise InputError(f"--input {text} is no shape; channels and sides are needed, such as 3x32x32")
    return [int(size) for size in sizes]


def read_bytes(text: str) -> int:
    """Bytes of a text such as 8GiB or 11 GB; 0 of an empty one.

    Raises:
        InputError: it is no size.
    """
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--memory {text} is no size; a number and a unit are needed, such as 8GiB or 11GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
