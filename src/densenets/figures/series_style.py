"""How series look in figures: colours that the colour-blind tell apart, and markers."""

from __future__ import annotations

from typing import NamedTuple

# Okabe and Ito's; with more series than colours, markers tell.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class Look(NamedTuple):
    """What a series is drawn in."""

    colour: str
    marker: str


def look(number: int) -> Look:
    """The look of a series by its number; 49 pairs before one comes again."""
    round_ = number // len(COLOURS)
    return Look(COLOURS[number % len(COLOURS)], _MARKERS[(number + round_) % len(_MARKERS)])
