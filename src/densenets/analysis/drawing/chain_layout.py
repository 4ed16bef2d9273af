"""The compact drawing of a network: a chain of boxes, a part each, with channels and sizes in words.

Boxes are as high as their maps are large, on a scale of logarithms. Needs no matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from densenets.analysis.drawing.drawing import TEXT_SIZE, Box, Line, Mark, Role, Text, box, centred, titled
from densenets.analysis.drawing.network_parts import Part, PartRole
from densenets.analysis.drawing.text_size import LINE_HEIGHT, text_width

BOX_ROLES: dict[PartRole, Role] = {
    "image": "image",
    "stem": "stem",
    "stage": "layer",
    "convolution": "layer",
    "transition": "transition",
    "classifier": "classifier",
}
_PADDING, _GAP = 6.0, 13.0
_NARROWEST = 100.0  # a line that is broken
_LARGEST_SHARE = 0.5  # of the text's height, by which the box of the largest maps is higher


def chain_marks(parts: Sequence[Part]) -> list[Mark]:
    """Boxes from left to right, with arrows between them."""
    texts = [_lines(part) for part in parts]
    lowest = max(len(lines) for lines in texts) * TEXT_SIZE * LINE_HEIGHT + 2 * _PADDING
    heights = _heights(parts, lowest)
    boxes: list[Box] = []
    marks: list[Mark] = []
    left = 0.0
    for part, lines, (before, behind) in zip(parts, texts, heights, strict=True):
        width = max(line.bounds[2] - line.bounds[0] for line in lines) + 2 * _PADDING
        role = BOX_ROLES[part.role]
        boxes.append(box(role, left=left, width=width, middle=0, height=before, right_height=behind))
        marks += [boxes[-1], *centred(lines, left + width / 2)]
        left += width + _GAP
    arrows = [
        Line(start=(first.bounds[2] + 1, 0), end=(second.left - 1, 0), has_head=True)
        for first, second in pairwise(boxes)
    ]
    return [*arrows, *marks]


def _lines(part: Part) -> list[Text]:
    facts = [part.channels_text, part.sides_text]
    width = max(_NARROWEST, *(text_width(fact, TEXT_SIZE) for fact in facts))
    operations = [line for text in part.operations for line in _broken(text, width)]
    return titled([part.title, *operations, *facts], TEXT_SIZE)


def _broken(text: str, width: float) -> list[str]:
    """A text in two lines, the first of which ends with its comma, if it is wider than `width` points."""
    first, comma, second = text.partition(", ")
    return [f"{first},", second] if comma and text_width(text, TEXT_SIZE) > width else [text]


def _heights(parts: Sequence[Part], lowest: float) -> list[tuple[float, float]]:
    """Heights of the left and right sides of the boxes, from `lowest` on."""
    sizes = relative_sizes(parts)
    return [
        (lowest * (1 + _LARGEST_SHARE * before), lowest * (1 + _LARGEST_SHARE * behind))
        for before, behind in sizes
    ]


def relative_sizes(parts: Sequence[Part]) -> list[tuple[float, float]]:
    """Sizes of the maps before and behind each part, from 0 of the smallest to 1, by their logarithms.

    The classifier's single pixel does not count; it is as large as the maps that it reads.
    """
    pairs = [
        (part.in_sides, part.in_sides if part.role == "classifier" else part.out_sides) for part in parts
    ]
    logarithms = [tuple(math.log2(math.prod(sides)) / len(sides) for sides in pair) for pair in pairs]
    least = min(min(pair) for pair in logarithms)
    # Sides that are halved less than twice in all use a part of the scale.
    span = max(max(max(pair) for pair in logarithms) - least, 2.0)
    return [((before - least) / span, (behind - least) / span) for before, behind in logarithms]
