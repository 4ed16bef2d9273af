"""The layers of a stage as nodes in a row, with what connects them. Needs no matplotlib."""

from __future__ import annotations

from itertools import pairwise

from densenets.analysis.drawing.drawing import Arc, ArcKind, Line, Mark, Text, box
from densenets.analysis.drawing.network_parts import Part

# Of the pitch: a node, a node with a line around it, which needs a wider gap, and that line above the node.
_NODE_SHARE, _BYPASSED_SHARE, _AROUND_SHARE = 0.76, 0.62, 0.6
_LARGEST_NUMBER, _SMALLEST_NUMBER = 8.0, 4.5  # of fonts, in points
_NUMBER_SHARE = 0.95  # of a node's width, its font: digits are lower than the font's size
_LOWEST_ARC = 5.0
_COLUMN_PITCH, _JOIN_WIDTH = 13.0, 3.0  # of the columns of a fractal block, and of the bars of their joins


def row_width(stage: Part, pitch: float) -> float:
    """The width of a stage's row of nodes, from the first one's left gap to the last one's right gap."""
    return (stage.length + (stage.links == "dense")) * pitch


def row_height(stage: Part, node_height: float) -> float:
    """The height of the nodes, without what leads over them."""
    return stage.columns * _COLUMN_PITCH if stage.links == "fractal" else node_height


def stage_nodes(stage: Part, left: float, pitch: float, node_height: float, rise: float) -> list[Mark]:
    """The nodes of a stage around y = 0, with the lines that connect them.

    Args:
        stage: whose layers are drawn.
        left: where the row begins.
        pitch: from one node to the next.
        node_height: of each node.
        rise: height of the longest arc over the nodes.
    """
    if stage.links == "dense":
        return dense_nodes(stage, left, pitch, node_height, rise)
    if stage.links == "fractal":
        return _fractal_nodes(stage, left, pitch)
    marks: list[Mark] = [Line(start=(left, 0), end=(left + row_width(stage, pitch), 0))]
    if stage.links != "none":
        marks += _ways_around(stage, left, pitch, node_height)
    for number, reads in enumerate(stage.layers):
        marks += _node(str(reads), left + (number + 0.5) * pitch, _BYPASSED_SHARE * pitch, node_height)
    return marks


def _ways_around(stage: Part, left: float, pitch: float, node_height: float) -> list[Mark]:
    """An arc around each node, from the way before it to the way behind it, where the next one begins."""
    kind: ArcKind = "shortcut" if stage.links == "shortcut" else "carry"
    places, top = [left + number * pitch for number in range(stage.length + 1)], node_height / 2
    arcs = [
        Arc(kind=kind, start=(before, top), end=(behind, top), rise=_AROUND_SHARE * pitch, source=0)
        for before, behind in pairwise(places)
    ]
    return [*arcs, *[Line(start=(place, 0), end=(place, top)) for place in places]]


def dense_nodes(block: Part, left: float, pitch: float, node_height: float, rise: float) -> list[Mark]:
    """The input and the layers of a dense block around y = 0, with an arc for each of its connections."""
    count = len(block.layers)

    def top(place: int) -> tuple[float, float]:
        return left + (place + 0.5) * pitch, node_height / 2

    marks: list[Mark] = [
        Arc(
            kind="connection",
            start=top(source),
            end=top(target),
            rise=arc_rise(target - source, count, rise),
            source=source / count,
        )
        for source in range(count)
        for target in range(source + 1, count + 1)
    ]
    marks += _node("in", left + 0.5 * pitch, node_width(pitch), node_height, is_input=True)
    for number, reads in enumerate(block.layers, start=1):
        marks += _node(str(reads), left + (number + 0.5) * pitch, node_width(pitch), node_height)
    return marks


def arc_rise(span: int, most: int, rise: float) -> float:
    """The height of an arc over `span` nodes where the longest is over `most` and of the height `rise`."""
    return max(_LOWEST_ARC, rise * span / most)


def node_width(pitch: float) -> float:
    """The width of a node, in points."""
    return _NODE_SHARE * pitch


def _node(text: str, middle: float, width: float, height: float, *, is_input: bool = False) -> list[Mark]:
    node = box("stem" if is_input else "layer", left=middle - width / 2, width=width, middle=0, height=height)
    size = min(_LARGEST_NUMBER, _NUMBER_SHARE * width)
    if size < _SMALLEST_NUMBER:
        return [node]
    return [node, Text(text=text, x=middle, y=0, size=size, upright=True)]


def _fractal_nodes(stage: Part, left: float, pitch: float) -> list[Mark]:
    """Columns below one another, the shallowest on top, with bars where they are joined.

    Column c (from 0) has 2^c convolutions; where several columns end one together, they are joined.
    """
    columns = stage.columns
    steps = stage.length
    right = left + steps * pitch
    heights = [(columns - 1 - 2 * number) / 2 * _COLUMN_PITCH for number in range(columns)]
    marks: list[Mark] = [Line(start=(left, height), end=(right, height)) for height in heights]
    for column, height in enumerate(heights):
        period = steps // 2**column
        for number in range(2**column):
            middle = left + (number + 0.5) * period * pitch
            width = _BYPASSED_SHARE * pitch
            marks.append(
                box("layer", left=middle - width / 2, width=width, middle=height, height=0.7 * _COLUMN_PITCH)
            )
    marks.append(Line(start=(left, heights[-1]), end=(left, heights[0])))  # where the columns begin
    for step in range(1, steps + 1):
        ending = [column for column in range(columns) if step % (steps // 2**column) == 0]
        if len(ending) > 1:
            top, bottom = heights[ending[0]], heights[ending[-1]]
            marks.append(
                box(
                    "transition",
                    left=left + step * pitch - _JOIN_WIDTH / 2,
                    width=_JOIN_WIDTH,
                    middle=(top + bottom) / 2,
                    height=top - bottom + 0.7 * _COLUMN_PITCH,
                )
            )
    return marks
