from __future__ import annotations

import pytest

from densenets.names import one_line, printable


@pytest.mark.parametrize(
    "name", ["plain", "Zürich 猫", "שלום 😀 हिन्दी", "a b", 'a,"b"', "$x$ [bold] \\n", ""]
)
def test_what_can_be_shown_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r\t", r"a\nb\r\t"),
        ("caf\udce9", r"caf\udce9"),
        ("\x1b[31mred\x00\x7f\x85", r"\x1b[31mred\x00\x7f\x85"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_leaves_its_line_or_has_no_encoding_is_told(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert shown.encode("ascii")


def test_of_an_error_the_lines_are_joined() -> None:
    assert one_line(" first  one\n\n  second\x1b \n") == r"first  one second\x1b"
