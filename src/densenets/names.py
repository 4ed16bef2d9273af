"""Names of files and classes as one printable line for terminals, figures and pages.

A file's name is any bytes. Those that are no UTF-8 are lone surrogates in Python's text, which no encoding
takes; line breaks and escape sequences would break the line, or control the terminal.
"""

from __future__ import annotations

import os
import sys
import unicodedata

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, surrogates, separators of lines and paragraphs
_NOT_IN_XML = "\ufffe\uffff"  # neither can an SVG hold these


def printable(text: str) -> str:
    r"""Text with unprintable characters escaped as in a Python string: `\n`, `\x1b`, `\udcff`."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in _UNPRINTABLE or c in _NOT_IN_XML
        else c
        for c in text
    )


def one_line(text: str) -> str:
    """Text of several lines, such as an error's, joined to one printable line."""
    return printable(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def tell(text: str) -> None:
    """Print a line to standard error, on the first rank only."""
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"{printable(text)}\n")
