"""Text of any script in figures: escaped for matplotlib, and drawn in fonts that have its characters."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

from densenets.names import printable


def literal(text: str) -> str:
    """Text without formulas: every $ escaped, and what is unprintable as in a Python string."""
    return "\n".join(printable(line) for line in text.split("\n")).replace("$", r"\$")


def shortened(name: str, longest: int) -> str:
    """A name of at most so many characters, with its middle left out if it is longer."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


@contextmanager
def fonts_for(figure: Figure) -> Iterator[None]:
    """Add font families to the text of a figure for characters that its font lacks, without warnings.

    A PNG shows boxes for the others; in an SVG text is text, in the fonts of who looks at it.
    """
    for text in figure.findobj(Text):
        characters = frozenset(ord(character) for character in text.get_text() if character != "\n")
        if families := _families(characters - _default_characters(findfont(text.get_fontproperties()))):
            text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@functools.lru_cache(maxsize=64)
def _families(missing: frozenset[int]) -> tuple[str, ...]:
    """The fewest installed font families, greedily chosen, that have these characters."""
    # This font has a box for every character.
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")]
    covered = {font.fname: missing & _characters(font.fname) for font in fonts} if missing else {}
    families: list[str] = []
    while missing:
        best = max(fonts, key=lambda font: (len(missing & covered[font.fname]), font.name))
        if not missing & covered[best.fname]:
            break
        families.append(best.name)
        missing -= covered[best.fname]
    return tuple(families)


@functools.lru_cache(maxsize=4)
def _default_characters(font: str) -> frozenset[int]:
    return _characters(font)


def _characters(font: str) -> frozenset[int]:
    """The code points that a font file has glyphs for."""
    return frozenset(get_font(font).get_charmap())
