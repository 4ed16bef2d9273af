"""The confusion matrix on the page: a table of few classes, the most frequent pairs of many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densenets.analysis.confusion_figure import MOST_NAMED_CLASSES
from densenets.report.overview import Overview

_MOST_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class ConfusionCell:
    """The images of one class that were taken for one class.

    Attributes:
        share: of the true class' images, 0 ... 1, for the cell's colour.
        count: images.
        correct: whether both classes are the same.
        text: percent of the true class, as shown.
    """

    share: str
    count: int
    correct: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """One true class.

    Attributes:
        name: of the class.
        images: of the class.
        error: top-1 error in percent, as shown.
        cells: one a predicted class.
    """

    name: str
    images: int
    error: str
    cells: tuple[ConfusionCell, ...]


@dataclass(frozen=True, kw_only=True)
class ConfusionPair:
    """A class that was taken for another.

    Attributes:
        true: class of the images.
        predicted: what they were taken for.
        count: images.
        share: of the true class, in percent, as shown.
    """

    true: str
    predicted: str
    count: int
    share: str


def confusion_rows(overview: Overview) -> list[ConfusionRow]:
    """Rows of the confusion matrix; none without an evaluation, or of too many classes to name."""
    if not overview.evaluation or len(overview.classes) > MOST_NAMED_CLASSES:
        return []
    rows = []
    for label, (name, counts) in enumerate(zip(overview.classes, overview.evaluation.confusion, strict=True)):
        images = sum(counts)
        shares = [count / images if images else 0.0 for count in counts]
        rows.append(
            ConfusionRow(
                name=name,
                images=images,
                error=f"{100 * (1 - shares[label]):.1f}" if images else "-",
                cells=tuple(
                    ConfusionCell(
                        share=f"{share:.3f}",
                        count=count,
                        correct=place == label,
                        text=f"{100 * share:.0f}" if share >= 0.005 else "·" if count else "",
                    )
                    for place, (share, count) in enumerate(zip(shares, counts, strict=True))
                ),
            )
        )
    return rows


def confusion_pairs(overview: Overview) -> list[ConfusionPair]:
    """The most frequent confusions, the most frequent first."""
    assert overview.evaluation is not None
    counts = np.array(overview.evaluation.confusion)
    images = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [(int(place // len(counts)), int(place % len(counts))) for place in order]
    return [
        ConfusionPair(
            true=overview.classes[true],
            predicted=overview.classes[guess],
            count=int(counts[true, guess]),
            share=f"{100 * counts[true, guess] / images[true]:.0f}%",
        )
        for true, guess in pairs
        if counts[true, guess]
    ]
