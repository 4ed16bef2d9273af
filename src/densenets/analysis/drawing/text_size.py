"""Widths of texts before they are drawn. Needs no matplotlib.

They are upper bounds for DejaVu Sans, the font of our figures; other fonts that an SVG names are no wider.
"""

from __future__ import annotations

# Characters and their largest advance width, by the size of the font.
_ADVANCES = (
    ("ijl.,:;|/\\' ·", 0.36),
    ("frtI()[]!-", 0.45),
    ("mMW%@…", 1.0),
    ("w→×=+~<>#&^", 0.84),
    ("ABCDEFGHJKLNOPQRSTUVXYZ", 0.79),
    ("₀₁₂₃₄₅₆₇₈₉", 0.41),
)
_ADVANCE = {character: advance for characters, advance in _ADVANCES for character in characters}
_USUAL_ADVANCE, _FOREIGN_ADVANCE = 0.64, 1.1  # of small letters and digits; of other scripts
_BOLD = 1.12
LINE_HEIGHT = 1.35  # from one line to the next, by the size of the font


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width in points of one line in a font of `size` points, at most."""
    return sum(_advance(character) for character in text) * size * (_BOLD if bold else 1.0)


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Lines of a text that are at most `width` points wide, where its words allow it."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _advance(character: str) -> float:
    return _ADVANCE.get(character, _USUAL_ADVANCE if character.isascii() else _FOREIGN_ADVANCE)
