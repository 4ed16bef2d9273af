"""What a drawing consists of: boxes, stacks of feature maps, arcs, lines and texts. Needs no matplotlib.

Coordinates are points (1/72 inch), to the right and upwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from densenets.analysis.drawing.text_size import LINE_HEIGHT, text_width, wrapped

# What a box stands for, which gives its colour; a panel is the ground behind a stage's layers.
Role = Literal["image", "stem", "panel", "layer", "transition", "classifier"]

ArcKind = Literal["connection", "reader", "shortcut", "carry"]

Bounds = tuple[float, float, float, float]  # left, bottom, right, top
Point = tuple[float, float]  # x, y

TITLE_SIZE, SUBTITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 14.0, 9.5, 9.0, 8.0  # of fonts
_MARGIN, _HEADER_GAP, _FOOTER_GAP = 14.0, 8.0, 14.0
_NARROWEST_NOTE = 420.0  # a line of a note below a narrow drawing


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle, or a trapezoid whose left and right sides differ in height.

    Attributes:
        role: what it stands for.
        left: x of its left side.
        width: from there to the right side.
        middle: y of its middle.
        height: of the left side.
        right_height: of the right side.
    """

    role: Role
    left: float
    width: float
    middle: float
    height: float
    right_height: float

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        half = max(self.height, self.right_height) / 2
        return self.left, self.middle - half, self.left + self.width, self.middle + half


@dataclass(frozen=True, kw_only=True)
class MapStack:
    """Feature maps behind one another, seen at an angle: parallelograms.

    Attributes:
        left: x of the first one's left side.
        middle: y of their middle.
        planes: how many are drawn, which may be fewer than there are.
        plane_width: of each, along x.
        plane_height: of each one's sides.
        slant: by how much a right side is higher than its left one.
        step: from one to the next.
        source: place of what made the maps among the sources, from 0 to 1, which gives the colour; None of an
            image.
    """

    left: float
    middle: float
    planes: int
    plane_width: float
    plane_height: float
    slant: float
    step: float
    source: float | None

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        half = (self.plane_height + self.slant) / 2
        right = self.left + self.plane_width + self.step * (self.planes - 1)
        return self.left, self.middle - half, right, self.middle + half


@dataclass(frozen=True, kw_only=True)
class Arc:
    """A connection from one thing to another behind it, over what lies between.

    Attributes:
        kind: "connection" of a dense layer, "reader" of what reads the whole block, "shortcut" of a residual
            unit, "carry" of a highway layer.
        start: where it leaves.
        end: where it arrives.
        rise: height of its middle above the mean of both ends.
        source: place of what is read among the sources, from 0 to 1, which gives the colour.
        has_head: whether it ends in an arrowhead.
    """

    kind: ArcKind
    start: Point
    end: Point
    rise: float
    source: float
    has_head: bool = False

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        (left, first), (right, last) = self.start, self.end
        return left, min(first, last), right, (first + last) / 2 + self.rise


@dataclass(frozen=True, kw_only=True)
class Line:
    """A straight line: the way of the maps through the network.

    Attributes:
        start: its first end.
        end: its last end.
        has_head: whether it ends in an arrowhead.
        source: of a connection of a dense layer, its place among the sources, from 0 to 1; None of others.
        is_reader: whether it leads to what reads the whole block, and is no connection of a layer.
    """

    start: Point
    end: Point
    has_head: bool = False
    source: float | None = None
    is_reader: bool = False

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top."""
        (left, first), (right, last) = self.start, self.end
        return left, min(first, last), right, max(first, last)


@dataclass(frozen=True, kw_only=True)
class Text:
    """One line of text, centred on its place unless it is anchored at its left end.

    Attributes:
        text: the line.
        x: of the middle, or of the left end.
        y: of the middle.
        size: of the font.
        bold: whether it is bold.
        anchor: which part of the text x is of.
        upright: whether it runs upwards.
        is_faint: whether it says something beside the drawing.
    """

    text: str
    x: float
    y: float
    size: float
    bold: bool = False
    anchor: Literal["middle", "left"] = "middle"
    upright: bool = False
    is_faint: bool = False

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top, at most."""
        width, height = text_width(self.text, self.size, bold=self.bold), self.size * LINE_HEIGHT
        if self.upright:
            width, height = height, width
        left = self.x if self.anchor == "left" else self.x - width / 2
        return left, self.y - height / 2, left + width, self.y + height / 2


Mark = Box | MapStack | Arc | Line | Text


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A drawing of a network or of one of its dense blocks.

    Attributes:
        title: the network's name.
        facts: what the line below the title says.
        notes: lines below the drawing.
        marks: all that is drawn, title and notes included; later ones lie on top.
        bounds: of the page, with its margins.
    """

    title: str
    facts: str
    notes: tuple[str, ...]
    marks: tuple[Mark, ...]
    bounds: Bounds

    @property
    def size(self) -> Point:
        """Width and height of the page."""
        left, bottom, right, top = self.bounds
        return right - left, top - bottom


def box(
    role: Role, *, left: float, width: float, middle: float, height: float, right_height: float = 0.0
) -> Box:
    """A box, a rectangle unless its right side has a height of its own."""
    return Box(
        role=role, left=left, width=width, middle=middle, height=height, right_height=right_height or height
    )


def column(lines: Iterable[Text]) -> list[Text]:
    """Lines below one another: the first stays where it is."""
    placed: list[Text] = []
    for line in lines:
        y = placed[-1].y - (placed[-1].size + line.size) / 2 * LINE_HEIGHT if placed else line.y
        placed.append(dataclasses.replace(line, y=y))
    return placed


def titled(lines: Iterable[str], size: float) -> list[Text]:
    """Lines of text, the first of which is bold; where they stand is not known yet."""
    return [Text(text=line, x=0, y=0, size=size, bold=not number) for number, line in enumerate(lines)]


def centred(lines: Sequence[Text], x: float) -> list[Text]:
    """Lines of TEXT_SIZE below one another, in the middle of x and around y = 0."""
    first = (len(lines) - 1) / 2 * TEXT_SIZE * LINE_HEIGHT
    return column(dataclasses.replace(line, x=x, y=first) for line in lines)


def page(marks: Iterable[Mark], title: str, facts: str, notes: tuple[str, ...]) -> Drawing:
    """A drawing of these marks, with title and facts above them and notes below."""
    drawn = list(marks)
    left, bottom, right, top = _bounds(drawn)
    header_height = (TITLE_SIZE + SUBTITLE_SIZE) * LINE_HEIGHT
    header = [
        Text(
            text=title, x=left, y=top + _HEADER_GAP + header_height, size=TITLE_SIZE, bold=True, anchor="left"
        ),
        Text(text=facts, x=left, y=0, size=SUBTITLE_SIZE, anchor="left"),
    ]
    footer = [
        Text(text=line, x=left, y=bottom - _FOOTER_GAP, size=SMALL_SIZE, anchor="left", is_faint=True)
        for note in notes
        for line in wrapped(note, SMALL_SIZE, max(right - left, _NARROWEST_NOTE))
    ]
    drawn += [*column(header), *column(footer)]
    left, bottom, right, top = _bounds(drawn)
    return Drawing(
        title=title,
        facts=facts,
        notes=notes,
        marks=tuple(drawn),
        bounds=(left - _MARGIN, bottom - _MARGIN, right + _MARGIN, top + _MARGIN),
    )


def _bounds(marks: Iterable[Mark]) -> Bounds:
    lefts, bottoms, rights, tops = zip(*(mark.bounds for mark in marks), strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)
