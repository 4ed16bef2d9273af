"""A network with the layers of its stages and what connects them, as in the paper's Figure 2.

Stages are panels, and what lies between them narrow boxes, one an operation, with channels and sizes of
the maps below. Needs no matplotlib.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from densenets.analysis.drawing.chain_layout import BOX_ROLES, relative_sizes
from densenets.analysis.drawing.drawing import (
    SMALL_SIZE,
    TEXT_SIZE,
    Line,
    MapStack,
    Mark,
    Text,
    box,
    column,
    titled,
)
from densenets.analysis.drawing.layer_nodes import row_height, row_width, stage_nodes
from densenets.analysis.drawing.network_parts import Part
from densenets.analysis.drawing.text_size import text_width

_ROW_WIDTH, _WIDEST_PITCH, _NARROWEST_PITCH = 560.0, 17.0, 9.0  # of all layers; from one to the next
# Of the longest arc of all: its height by its row's width, and the bounds of that height.
_RISE_SHARE, _LOWEST_ARC, _HIGHEST_ARC = 0.45, 36.0, 130.0
_SMALLEST_NODE, _LARGEST_NODE = 30.0, 50.0
_OPERATION_WIDTH, _OPERATION_GAP = 17.0, 4.0
_PADDING, _GAP = 7.0, 14.0
_MOST_PLANES, _PLANE_WIDTH, _PLANE_SLANT, _PLANE_STEP = 4, 26.0, 14.0, 7.0  # of the image


def network_marks(parts: Sequence[Part]) -> list[Mark]:
    """Panels and boxes from left to right, with arrows between them and captions below."""
    layout = _Layout(parts)
    marks: list[Mark] = []
    left, last_right = 0.0, 0.0
    for number, part in enumerate(parts):
        caption, width = _caption(part), layout.width(part)
        slot = max(width, *(line.bounds[2] - line.bounds[0] for line in caption))
        middle = left + slot / 2
        start, end = middle - width / 2, middle + width / 2
        if number:
            marks.append(Line(start=(last_right + 1, 0), end=(start - 1, 0), has_head=True))
        marks += layout.part_marks(number, start)
        y = layout.bottom - TEXT_SIZE
        marks += column([dataclasses.replace(line, x=middle, y=y) for line in caption])
        left, last_right = left + slot + _GAP, end
    return marks


class _Layout:
    """What the parts of a network have in common: pitch, heights, and the line on which all of them stand."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        stages = [part for part in parts if part.role == "stage"]
        columns = sum(row_width(stage, 1) for stage in stages)
        self.pitch = max(_NARROWEST_PITCH, min(_WIDEST_PITCH, _ROW_WIDTH / max(columns, 1)))
        self.longest = max((stage.length for stage in stages), default=1)
        rise = _RISE_SHARE * self.longest * self.pitch
        self.rise = max(_LOWEST_ARC, min(_HIGHEST_ARC, rise))
        sizes = relative_sizes(parts)
        self.nodes = [_SMALLEST_NODE + (_LARGEST_NODE - _SMALLEST_NODE) * size for _, size in sizes]
        rows = [row_height(part, node) for part, node in zip(parts, self.nodes, strict=True)]
        self.bottom = -max(rows) / 2 - _PADDING
        texts = [text_width(text, SMALL_SIZE) for part in parts for text in _operations(part)]
        self.operation_height = max([*texts, max(rows)]) + 2 * _PADDING

    def width(self, part: Part) -> float:
        """The width of a part without its caption."""
        if part.role == "image":
            return _image_width(part)
        if part.role == "stage":
            return row_width(part, self.pitch) + 2 * _PADDING
        count = len(part.operations)
        return count * _OPERATION_WIDTH + (count - 1) * _OPERATION_GAP

    def part_marks(self, number: int, left: float) -> list[Mark]:
        """A part from its left side on."""
        part = self.parts[number]
        if part.role == "image":
            return [_image(part, left)]
        if part.role == "stage":
            return self._stage_marks(part, self.nodes[number], left)
        marks: list[Mark] = []
        for operation in part.operations:
            height = self.operation_height
            middle = self.bottom + height / 2
            marks += [
                box(BOX_ROLES[part.role], left=left, width=_OPERATION_WIDTH, middle=middle, height=height),
                Text(text=operation, x=left + _OPERATION_WIDTH / 2, y=middle, size=SMALL_SIZE, upright=True),
            ]
            left += _OPERATION_WIDTH + _OPERATION_GAP
        return marks

    def _stage_marks(self, stage: Part, node_height: float, left: float) -> list[Mark]:
        # Stages of equally many layers are equally high, whatever the size of their maps.
        rise = self.rise * stage.length / self.longest + (_LARGEST_NODE - node_height) / 2
        nodes = stage_nodes(stage, left + _PADDING, self.pitch, node_height, rise)
        top = max(mark.bounds[3] for mark in nodes) + _PADDING
        panel = box(
            "panel",
            left=left,
            width=self.width(stage),
            middle=(self.bottom + top) / 2,
            height=top - self.bottom,
        )
        return [panel, *nodes]


def _image(part: Part, left: float) -> MapStack:
    """The channels of the image behind one another."""
    return MapStack(
        left=left,
        middle=0,
        planes=min(part.out_channels, _MOST_PLANES),
        plane_width=_PLANE_WIDTH,
        plane_height=_LARGEST_NODE,
        slant=_PLANE_SLANT,
        step=_PLANE_STEP,
        source=None,
    )


def _image_width(part: Part) -> float:
    _, _, right, _ = _image(part, 0).bounds
    return right


def _operations(part: Part) -> tuple[str, ...]:
    return () if part.role == "stage" else part.operations


def _caption(part: Part) -> list[Text]:
    """The lines below a part; where they stand is not known yet."""
    layers = part.operations if part.role == "stage" else ()
    return titled([part.title, *layers, part.channels_text, part.sides_text], SMALL_SIZE)
