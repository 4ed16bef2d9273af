"""Printing tables: a console of a fitting width, and names as cells and titles without markup."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from densenets.names import printable

_PLAIN_WIDTH = 150  # columns where no terminal says how wide it is


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
