"""Printing tables: a console of a fitting width, tables that fit it, and names without markup."""

from __future__ import annotations

import shutil

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from densenets.names import printable

_PLAIN_WIDTH = 150  # columns where no terminal says how wide it is
_PADDING = 2  # of a column of a table without a box
_ANY_WIDTH = 10_000


def console(*, stderr: bool = False) -> Console:
    """Where tables are printed: as wide as the terminal, or wide enough where there is none."""
    if not Console(stderr=stderr).is_terminal:
        return Console(highlight=False, stderr=stderr, width=_PLAIN_WIDTH)
    # By itself rich takes any terminal that is called dumb for one of 80 columns.
    columns, lines = shutil.get_terminal_size()
    return Console(highlight=False, stderr=stderr, width=columns, height=lines)


def print_table(out: Console, table: Table) -> None:
    """Print a table; one wider than the terminal as several below each other, each with the first column.

    Words are wrapped, never cut; columns that are justified to the right are neither.
    """
    sizes = {id(column): _size(out, column) for column in table.columns}
    first, *others = table.columns
    while others:
        shown = [first, others.pop(0)]
        while others and sum(sizes[id(column)].minimum for column in (*shown, others[0])) <= out.width:
            shown.append(others.pop(0))
        part = Table(title=table.title, box=None)
        for column in shown:
            least, most = sizes[id(column)]
            part.add_column(
                column.header, justify=column.justify, no_wrap=least == most, min_width=least - _PADDING
            )
        for cells, row in zip(zip(*(column.cells for column in shown), strict=True), table.rows, strict=True):
            part.add_row(*cells, end_section=row.end_section)
        out.print(part, crop=False)
        if others:
            out.print()


def _size(out: Console, column: Column) -> Measurement:
    """The least and the most that a column needs of the terminal's width."""
    options = out.options.update(width=_ANY_WIDTH)
    cells = [out.measure(cell, options=options) for cell in (column.header, *column.cells)]
    most = max(cell.maximum for cell in cells)
    least = most if column.justify == "right" else max(cell.minimum for cell in cells)
    return Measurement(least + _PADDING, most + _PADDING)


def plain(text: str) -> Text:
    """A name as the cell of a table: one line, and no markup whatever brackets it has."""
    return Text(printable(text))


def plain_title(text: str) -> str:
    """A title with a name in it: one line, and no markup whatever brackets it has."""
    return escape(printable(text))
