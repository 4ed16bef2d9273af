"""The figure of a drawing: colours, line widths and fonts of its marks."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Outline

from densenets.analysis.drawing.drawing import (
    Arc,
    ArcKind,
    Box,
    Drawing,
    Line,
    MapStack,
    Mark,
    Point,
    Role,
    Text,
)
from densenets.errors import InputError
from densenets.figures.fonts import literal
from densenets.figures.write import DPI, write_figure_file

_INK, _FAINT_INK, _WAY = "#1a1a1a", "#4d4d4d", "#555555"
# Told apart by lightness alone too: for the colour-blind, and printed in grey.
FILLS: dict[Role, str] = {
    "panel": "#f7f9fb",
    "image": "#ffffff",
    "stem": "#d9ecf7",
    "transition": "#f2c879",
    "classifier": "#7cc4a4",
    "layer": "#6fa8d6",
}
_EDGE, _PANEL_EDGE = "#333333", "#b8c4ce"
_Dashes = str | tuple[float, tuple[float, float]]
_READER_DASHES: _Dashes = (0, (4, 2))
_CARRY_DASHES: _Dashes = (0, (2, 1.5))
_POINTS_PER_INCH = 72
_MOST_PIXELS = 32_000  # of a PNG's side; matplotlib draws up to 65,535
_HEAD_LENGTH, _HEAD_HALF_WIDTH = 5.0, 2.2  # of an arrowhead, in points
_DARKEST, _LIGHTEST = 0.0, 0.78  # of the colour map, for sources; its yellow is too light for lines
# Of arcs: so wide while there are few, and never thinner; thousands of wide lines would be one surface.
_WIDEST, _THINNEST, _FEW_ARCS, _THINNING = 1.3, 0.35, 40, 0.4


def write_drawing(drawing: Drawing, path: Path) -> None:
    """Write a drawing as SVG, PNG or PDF, by the ending of its file's name.

    Raises:
        InputError: it has more pixels than a PNG of ours can have, or the file cannot be written.
    """
    pixels = max(drawing.size) / _POINTS_PER_INCH * DPI
    if path.suffix.lower() == ".png" and pixels > _MOST_PIXELS:
        raise InputError(
            f"a PNG would be {pixels:,.0f} pixels wide, at most {_MOST_PIXELS:,} are drawn; take .svg"
        )
    write_figure_file(drawing_figure(drawing), path)


def drawing_figure(drawing: Drawing) -> Figure:
    """A figure of the drawing's size whose coordinates are the drawing's."""
    width, height = (length / _POINTS_PER_INCH for length in drawing.size)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    left, bottom, right, top = drawing.bounds
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    arc_width = _arc_width(sum(isinstance(mark, Arc) for mark in drawing.marks))
    order = 0
    for style, marks in groupby(drawing.marks, key=_arc_style):
        group = list(marks)
        if style is not None:
            _draw_arcs(axes, style, [mark for mark in group if isinstance(mark, Arc)], arc_width, order)
        for mark in group:
            order += 1
            if isinstance(mark, Box):
                _draw_box(axes, mark, order)
            elif isinstance(mark, MapStack):
                _draw_stack(axes, mark, order)
            elif isinstance(mark, Line):
                _draw_line(axes, mark, order)
            elif isinstance(mark, Text):
                _draw_text(axes, mark, order)
    return figure


class _ArcStyle(NamedTuple):
    """What arcs have in common that are drawn as one path: thousands of paths would be a slow SVG."""

    kind: ArcKind
    source: float


def _arc_style(mark: Mark) -> _ArcStyle | None:
    return _ArcStyle(mark.kind, mark.source) if isinstance(mark, Arc) else None


def _arc_width(count: int) -> float:
    return max(_THINNEST, min(_WIDEST, _WIDEST * (_FEW_ARCS / max(count, 1)) ** _THINNING))


def _draw_box(axes: Axes, box: Box, order: int) -> None:
    right = box.left + box.width
    corners = [
        (box.left, box.middle - box.height / 2),
        (right, box.middle - box.right_height / 2),
        (right, box.middle + box.right_height / 2),
        (box.left, box.middle + box.height / 2),
    ]
    is_panel = box.role == "panel"
    axes.add_patch(
        Polygon(
            corners,
            closed=True,
            facecolor=FILLS[box.role],
            edgecolor=_PANEL_EDGE if is_panel else _EDGE,
            linewidth=0.8,
            joinstyle="round",
            zorder=order,
        )
    )


def _draw_stack(axes: Axes, stack: MapStack, order: int) -> None:
    bottom = stack.middle - (stack.plane_height + stack.slant) / 2
    # The last one first, so that the nearer ones lie on top.
    for number in reversed(range(stack.planes)):
        left, right = stack.left + stack.step * number, stack.left + stack.step * number + stack.plane_width
        corners = [
            (left, bottom),
            (right, bottom + stack.slant),
            (right, bottom + stack.slant + stack.plane_height),
            (left, bottom + stack.plane_height),
        ]
        axes.add_patch(
            Polygon(
                corners,
                closed=True,
                facecolor="white" if stack.source is None else source_colour(stack.source),
                edgecolor=_EDGE if stack.source is None else "white",
                linewidth=0.8,
                joinstyle="round",
                zorder=order,
            )
        )


def _draw_line(axes: Axes, line: Line, order: int) -> None:
    colour = _WAY if line.source is None else source_colour(line.source)
    (x0, y0), (x1, y1) = line.start, line.end
    if line.has_head:
        _draw_head(axes, line.end, (1.0, 0.0), colour, order)
        x1 -= _HEAD_LENGTH
    dashes = _READER_DASHES if line.is_reader else "-"
    outline = Outline([(x0, y0), (x1, y1)], [Outline.MOVETO, Outline.LINETO])
    axes.add_patch(_stroke(outline, colour, 1.1, dashes, order))


def _draw_arcs(axes: Axes, style: _ArcStyle, arcs: list[Arc], width: float, order: int) -> None:
    colour = _WAY if style.kind in ("shortcut", "carry") else source_colour(style.source)
    points: list[Point] = []
    for arc in arcs:
        (x0, y0), (x1, y1) = arc.start, arc.end
        end = y1
        if arc.has_head:
            _draw_head(axes, arc.end, (0.0, -1.0), colour, order)
            end += _HEAD_LENGTH
        # The middle of a cubic curve is three quarters as high as its two handles.
        handle = (y0 + y1) / 2 + arc.rise * 4 / 3
        points += [(x0, y0), (x0, handle), (x1, handle), (x1, end)]
    codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4] * len(arcs)
    dashes = {"reader": _READER_DASHES, "carry": _CARRY_DASHES}.get(style.kind, "-")
    axes.add_patch(_stroke(Outline(points, codes), colour, width, dashes, order))


def _stroke(outline: Outline, colour: str, width: float, dashes: _Dashes, order: int) -> PathPatch:
    return PathPatch(
        outline,
        fill=False,
        edgecolor=colour,
        linewidth=width,
        linestyle=dashes,
        capstyle="butt",
        zorder=order,
    )


def _draw_head(axes: Axes, tip: Point, direction: Point, colour: str, order: int) -> None:
    """A triangle that ends at `tip`, in the direction of a unit vector."""
    (x, y), (dx, dy) = tip, direction
    back_x, back_y = x - dx * _HEAD_LENGTH, y - dy * _HEAD_LENGTH
    side_x, side_y = -dy * _HEAD_HALF_WIDTH, dx * _HEAD_HALF_WIDTH
    corners = [tip, (back_x + side_x, back_y + side_y), (back_x - side_x, back_y - side_y)]
    axes.add_patch(Polygon(corners, closed=True, facecolor=colour, linewidth=0, zorder=order))


def _draw_text(axes: Axes, text: Text, order: int) -> None:
    axes.text(
        text.x,
        text.y,
        literal(text.text),
        fontsize=text.size,
        fontweight="bold" if text.bold else "normal",
        color=_FAINT_INK if text.is_faint else _INK,
        horizontalalignment="left" if text.anchor == "left" else "center",
        verticalalignment="center_baseline",
        rotation=90 if text.upright else 0,
        rotation_mode="anchor" if text.upright else "default",
        zorder=order,
    )


def source_colour(source: float) -> str:
    """The colour of a source by its place, from 0 to 1, in a block: the later, the lighter."""
    return to_hex(mpl.colormaps["viridis"](_DARKEST + (_LIGHTEST - _DARKEST) * source))
