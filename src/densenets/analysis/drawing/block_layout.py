"""A dense block with every connection as an arc, as in the paper's Figure 1. Needs no matplotlib.

A connection has the colour of what it reads. What reads the whole block, the transition or the classifier, is
at the end, its arcs dashed: it is no layer of the block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from densenets.analysis.drawing.chain_layout import BOX_ROLES
from densenets.analysis.drawing.drawing import (
    SMALL_SIZE,
    TEXT_SIZE,
    Arc,
    Box,
    Line,
    MapStack,
    Mark,
    Text,
    box,
    centred,
    column,
    titled,
)
from densenets.analysis.drawing.layer_nodes import arc_rise, dense_nodes, node_width
from densenets.analysis.drawing.network_parts import Part, counted
from densenets.analysis.drawing.text_size import LINE_HEIGHT, text_width

MOST_DETAILED = 8  # layers, up to which maps are drawn as stacks, and layers with what they compute
MOST_PLANES = 6
_PLANE_WIDTH, _PLANE_HEIGHT, _PLANE_SLANT, _PLANE_STEP = 12.0, 42.0, 10.0, 5.0
_GAP, _PADDING = 16.0, 7.0
_NUMBER_SIZE = 11.0
_ARC_PITCH_AT_SOURCE, _ARC_PITCH_AT_TARGET = 3.0, 5.5
_RISE, _RISE_PER_LAYER = 20.0, 16.0

_ROW_WIDTH, _WIDEST_PITCH, _NARROWEST_PITCH = 900.0, 26.0, 6.0
_NODE_HEIGHT = 40.0


def block_marks(block: Part, reader: Part) -> list[Mark]:
    """A dense block and what reads all of it, the transition or the classifier."""
    if len(block.layers) <= MOST_DETAILED:
        return _detailed_marks(block, reader)
    return _compact_marks(block, reader)


@dataclass(frozen=True)
class _Row:
    """The stacks of maps of a block's sources and the boxes of what reads them, from left to right.

    Target t reads the sources 0 ... t; the last target is what reads the whole block.
    """

    stacks: tuple[MapStack, ...]
    boxes: tuple[Box, ...]
    texts: tuple[Text, ...]


def _detailed_marks(block: Part, reader: Part) -> list[Mark]:
    row = _row(block, reader)
    last = len(row.boxes) - 1
    marks: list[Mark] = [
        _arc(row, source, target) for source in range(last) for target in range(source + 1, last + 1)
    ]
    for place, (stack, target) in enumerate(zip(row.stacks, row.boxes, strict=True)):
        marks.append(
            Line(
                start=(stack.bounds[2] - 2, 0),
                end=(target.left - 1, 0),
                has_head=True,
                source=stack.source,
                is_reader=place == last,
            )
        )
        if place < last:
            marks.append(
                Line(start=(target.bounds[2], 0), end=(row.stacks[place + 1].left - 1, 0), has_head=True)
            )
    return [*marks, *row.stacks, *row.boxes, *row.texts]


def _row(block: Part, reader: Part) -> _Row:
    layers = len(block.layers)
    contents = [[f"H{_subscript(number + 1)}", *block.layer_operations] for number in range(layers)]
    contents.append([reader.title, *reader.operations])
    height = max(len(lines) for lines in contents) * TEXT_SIZE * LINE_HEIGHT + 2 * _PADDING
    below = -max(height, _PLANE_HEIGHT + _PLANE_SLANT) / 2 - TEXT_SIZE
    stacks: list[MapStack] = []
    boxes: list[Box] = []
    texts: list[Text] = []
    left = 0.0
    for place, lines in enumerate(contents):
        maps = block.growth_rate if place else block.in_channels
        stacks.append(_stack(left, maps, place / layers))
        middle = (stacks[-1].bounds[0] + stacks[-1].bounds[2]) / 2
        texts += column(
            [
                Text(text=f"x{_subscript(place)}", x=middle, y=below, size=_NUMBER_SIZE, bold=True),
                Text(text=counted(maps, "map"), x=middle, y=0, size=SMALL_SIZE),
            ]
        )
        left = stacks[-1].bounds[2] + _GAP
        width = max(text_width(line, TEXT_SIZE, bold=line is lines[0]) for line in lines) + 2 * _PADDING
        is_reader = place == layers
        role = BOX_ROLES[reader.role] if is_reader else "layer"
        boxes.append(box(role, left=left, width=width, middle=0, height=height))
        reads = block.out_channels if is_reader else block.layers[place]
        texts += _box_texts(lines, left + width / 2, below, reads)
        left += width + _GAP
    return _Row(tuple(stacks), tuple(boxes), tuple(texts))


def _stack(left: float, maps: int, source: float) -> MapStack:
    return MapStack(
        left=left,
        middle=0,
        planes=min(maps, MOST_PLANES),
        plane_width=_PLANE_WIDTH,
        plane_height=_PLANE_HEIGHT,
        slant=_PLANE_SLANT,
        step=_PLANE_STEP,
        source=source,
    )


def _box_texts(lines: Sequence[str], x: float, below: float, reads: int) -> list[Text]:
    return [
        *centred(titled(lines, TEXT_SIZE), x),
        Text(text=f"reads {reads:,}", x=x, y=below, size=_NUMBER_SIZE, bold=True),
    ]


def _arc(row: _Row, source: int, target: int) -> Arc:
    """The arc from a source to a target behind the next one; of those of one place, none crosses another."""
    stack, reader = row.stacks[source], row.boxes[target]
    last = len(row.boxes) - 1
    left, _, right, _ = stack.bounds
    leaving, arriving = last - source, target
    # The arc to the farthest target leaves leftmost, and the one from the farthest source arrives rightmost.
    leaves = (leaving - 1) / 2 - (target - source - 1)
    arrives = (target - 1 - source) - (arriving - 1) / 2
    pitch = min(_ARC_PITCH_AT_SOURCE, (right - left - 4) / leaving)
    top = reader.bounds[3]
    return Arc(
        kind="reader" if target == last else "connection",
        # It begins behind the planes, whose upper edges are not level.
        start=((left + right) / 2 + leaves * pitch, top),
        end=(reader.left + reader.width / 2 + arrives * _ARC_PITCH_AT_TARGET, top + 1),
        rise=_RISE + _RISE_PER_LAYER * (target - source),
        source=source / last,
        has_head=True,
    )


def _compact_marks(block: Part, reader: Part) -> list[Mark]:
    layers = len(block.layers)
    pitch = max(_NARROWEST_PITCH, min(_WIDEST_PITCH, _ROW_WIDTH / layers))
    rise = max(90.0, min(280.0, 0.25 * pitch * layers))
    places = layers + 1
    title = [reader.title, f"reads {block.out_channels:,}"]
    width = max(text_width(line, TEXT_SIZE, bold=True) for line in title) + 2 * _PADDING
    left = (places + 0.5) * pitch
    target = box(BOX_ROLES[reader.role], left=left, width=width, middle=0, height=_NODE_HEIGHT)
    marks: list[Mark] = [
        Arc(
            kind="reader",
            start=((source + 0.5) * pitch, _NODE_HEIGHT / 2),
            end=(left + width / 2, _NODE_HEIGHT / 2),
            rise=arc_rise(places - source, layers, rise),
            source=source / layers,
        )
        for source in range(places)
    ]
    marks += dense_nodes(block, 0, pitch, _NODE_HEIGHT, rise)
    marks.append(target)
    marks += centred(titled(title, TEXT_SIZE), left + width / 2)
    return [*marks, *_numbers_of_layers(layers, pitch)]


def _numbers_of_layers(layers: int, pitch: float) -> list[Mark]:
    """The numbers of the layers below them, as many as there is room for, and what they are."""
    widest = text_width(str(layers), SMALL_SIZE)
    step = next(step for step in (1, 5, 10, 20, 50, 100) if step * pitch > widest + 2)
    y = -_NODE_HEIGHT / 2 - SMALL_SIZE
    numbers = [number for number in range(1, layers + 1) if number == 1 or number % step == 0]
    texts: list[Mark] = [
        Text(text=str(number), x=(number + 0.5) * pitch, y=y, size=SMALL_SIZE) for number in numbers
    ]
    right = (node_width(pitch) + pitch) / 2  # of the input's node
    return [
        *texts,
        Text(text="layer", x=right - text_width("layer", SMALL_SIZE) / 2, y=y, size=SMALL_SIZE),
    ]


def _subscript(number: int) -> str:
    return "".join(chr(ord("₀") + int(digit)) for digit in str(number))
