"""Tables for the terminal: on a narrow one nothing is cut."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from densenets.terminal import print_table

HEADINGS = ("layer", "maps", "parameters", "remark", "multiply-adds", "stored")
ROWS = [
    (
        f"denseblock{n}.denselayer{n}",
        f"{n}x{n}",
        f"{n * 123_456:,}",
        "two short words",
        f"{n * 10**8:,}",
        f"{n} MiB",
    )
    for n in range(1, 6)
]
WORDS = {"maps", "remark", "layer"}  # columns that are wrapped between words


def printed(width: int) -> list[str]:
    table = Table(title="a network", box=None)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in WORDS else "right")
    for number, row in enumerate(ROWS):
        table.add_row(*row, end_section=number == 3)
    out = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(out, table)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 150])
def test_nothing_is_cut_and_each_part_names_its_rows(width: int) -> None:
    lines = printed(width)
    text = "\n".join(lines)
    assert all(len(line) <= max(width, 2 + len(ROWS[0][0]) + 2 + len("multiply-adds")) for line in lines)
    assert "…" not in text
    for row in ROWS:
        for cell in (row[0], row[1], row[2], row[4], row[5]):
            assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), cell
    parts = text.split("\n\n")
    assert all(row[0] in part for part in parts for row in ROWS)
    headings = [heading for part in parts for heading in HEADINGS[1:] if heading in part]
    assert headings == list(HEADINGS[1:])


def test_a_table_that_fits_is_one() -> None:
    lines = printed(150)
    assert "" not in lines
    assert len(lines) == 2 + len(ROWS)
