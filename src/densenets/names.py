"""Names of files and classes as people read them: one line that every terminal, figure and page can hold.

A file's name is any bytes. Those that are no UTF-8 stand in Python's text as lone surrogates, which no
encoding takes; line breaks and escape sequences would leave their line, or speak to the terminal.
"""

from __future__ import annotations

import os
import sys
import unicodedata

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, separators of lines and paragraphs
_NOT_IN_XML = "\ufffe\uffff"  # beside those, so no SVG could hold them


def printable(text: str) -> str:
    r"""Text on one line, with what cannot be shown as in a Python string: `\n`, `\x1b`, `\udcff`."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _UNPRINTABLE or c in _NOT_IN_XML
        else c
        for c in text
    )


def one_line(text: str) -> str:
    """What is told of an error, on one line: its lines joined, the rest printable."""
    return printable(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def tell(text: str) -> None:
    """Print a line to standard error; of several processes that run together the first one does."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{printable(text)}\n")
