"""Numbers and sizes as people read them, and where tables are printed."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from densenets.names import printable

_PLAIN_WIDTH = 150  # columns where no terminal says how wide it is
_UNITS = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_HOUR, _DAY, _YEAR = 3600, 86_400, 365 * 86_400  # seconds


def console(*, stderr: bool = False) -> Console:
    """Where tables are printed: as wide as the terminal, or wide enough where there is none."""
    terminal = Console(highlight=False, stderr=stderr)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, stderr=stderr, width=_PLAIN_WIDTH)


def plain(text: str) -> Text:
    """A name as the cell of a table: one line, and no markup whatever brackets it has."""
    return Text(printable(text))


def plain_title(text: str) -> str:
    """A title with a name in it: one line, and no markup whatever brackets it has."""
    return escape(printable(text))


def short(number: float | None) -> str:
    """A number in three digits and a unit, such as 2.85 G."""
    if number is None:
        return "-"
    for size, unit in _UNITS:
        if number >= 0.9995 * size:  # what three digits would round up to 1000 of the unit below
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def bytes_text(number: float | None) -> str:
    """A size in the unit that fits, such as 1.50 MiB."""
    if number is None:
        return "-"
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:g} B"


def images_text(split: str) -> str:
    """What images of a role are called; "all" are those of a folder that plays none."""
    return "images" if split in ("", "all") else f"{split} images"


def duration(seconds: float | None) -> str:
    """A time in the unit that fits."""
    if seconds is None:
        return "-"
    for unit, name in ((_YEAR, "years"), (_DAY, "days"), (_HOUR, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"


def milliseconds(value: float | None) -> str:
    """A time in three digits, or in whole milliseconds above that."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
