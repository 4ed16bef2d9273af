"""What matplotlib can draw here: its own font, helped out by those of other scripts where there are some."""

from __future__ import annotations

import functools

from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

_OWN = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew, ...
_WIDE = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "NanumGothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
    "Lohit Devanagari",
    "Arial Unicode MS",
    "Unifont",
)


def drawable(text: str) -> str:
    """Text with an escape, such as \\u732b, for each character that no font here has."""
    known = _characters()
    return "".join(c if c == "\n" or ord(c) in known else ascii(c)[1:-1] for c in text)


def use_fonts(texts: list[Text]) -> None:
    """Let texts be drawn in the font that has each of their characters."""
    if len(families := list(_files())) > 1:
        for text in texts:
            text.set_fontfamily(families)


@functools.cache
def _files() -> dict[str, str]:
    """The fonts that are taken, in order: family -> file."""
    files: dict[str, str] = {}
    installed = {font.name: font.fname for font in fontManager.ttflist if font.weight in (400, "normal")}
    for family in (_OWN, *_WIDE):
        if family in installed:
            files[family] = installed[family]
    return files


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(code for file in _files().values() for code in get_font(file).get_charmap())
