"""Colours and markers of the series of a figure, told apart by the colour-blind too."""

from __future__ import annotations

from typing import NamedTuple

# Okabe and Ito's; with more series than colours, markers tell.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class SeriesStyle(NamedTuple):
    """Colour (as #RRGGBB) and marker (matplotlib's name) of a series."""

    colour: str
    marker: str


def series_style(number: int) -> SeriesStyle:
    """Style of a series by its number from 0; 49 styles before one comes again."""
    cycle = number // len(COLOURS)
    return SeriesStyle(COLOURS[number % len(COLOURS)], _MARKERS[(number + cycle) % len(_MARKERS)])
