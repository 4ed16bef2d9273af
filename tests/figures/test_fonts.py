from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from densenets.analysis.confusion_figure import write_confusion
from densenets.figures.fonts import fonts_for, literal, shortened

# The suite takes warnings for errors, so of those a missing glyph or a layout without room would be one.
NAMES = (
    "猫",
    "שלום",
    "हिन्दी",
    "😀",
    "caf\udce9",
    "a\nb",
    "a\x1b[31m",
    "$x$ $",
    "\\$5",
    "a\tb",
    "long" * 60,
    "\x01" * 60,
    "[bold]",
    "<b>&",
    "\ud800",
    "\uffff",
)


def test_names_of_any_kind_are_in_a_figure(tmp_path: Path) -> None:
    confusion = [[int(i == j) for j in range(len(NAMES))] for i in range(len(NAMES))]
    write_confusion(confusion, NAMES, tmp_path / "confusion")
    root = ElementTree.parse(tmp_path / "confusion.svg").getroot()
    shown = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in ("猫", "हिन्दी", r"caf\udce9", r"a\nb", r"a\x1b[31m", "$x$ $", "\\$5", "<b>&", r"\ud800"):
        assert shown.count(name) == 2  # on both axes


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("wide", ["W", "猫", "\U0010fffd"])  # no font has the last one
def test_long_names_leave_room_for_the_matrix(tmp_path: Path, wide: str, count: int) -> None:
    names = [f"{number} {wide * 60}" for number in range(count)]
    write_confusion([[1] * count] * count, names, tmp_path / "confusion")


def test_a_long_name_loses_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd…hijk"


def test_lines_that_are_meant_stay_lines() -> None:
    assert literal("first\nsecond\x1b $1") == "first\nsecond\\x1b \\$1"


def test_a_font_that_has_the_character_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure()
    plain, script = figure.text(0, 0, "plain"), figure.text(0, 0.5, "\N{MATHEMATICAL SCRIPT CAPITAL A}")
    usual = list(plain.get_fontfamily())
    with fonts_for(figure):
        figure.savefig(io.BytesIO(), format="png")
    assert plain.get_fontfamily() == usual
    added = script.get_fontfamily()[len(usual) :]
    assert len(added) == 1  # matplotlib itself brings STIXGeneral, which has it
