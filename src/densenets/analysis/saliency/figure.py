"""Saliency as a figure: the crop of a picture, and over it the Grad-CAM map of each dense block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from densenets.analysis.saliency.compute import ImageSaliency, SaliencyMap
from densenets.figures.fonts import literal, shortened
from densenets.figures.write import write_figure
from densenets.names import printable

_MOST_ROWS = 6  # of one figure; with more it is too tall to be looked at
_PANEL, _TITLE, _BAR = 2.4, 0.5, 1.0  # inches
_LONGEST_LINE = 38  # characters of a title that is as wide as its panel


def write_saliency(images: Sequence[ImageSaliency], stem: Path) -> None:
    """Draw pictures as `stem`.png and `stem`.svg; more than 6 as `stem`-1, `stem`-2 and so on, 6 in each."""
    pages = [images[start : start + _MOST_ROWS] for start in range(0, len(images), _MOST_ROWS)]
    for number, page in enumerate(pages, start=1):
        ending = f"-{number}" if len(pages) > 1 else ""
        write_figure(saliency_figure(page), stem.with_name(stem.name + ending))


def saliency_figure(images: Sequence[ImageSaliency]) -> Figure:
    """A row a picture, all of one network: the crop that it saw, then a panel a dense block."""
    rows, columns = len(images), 1 + len(images[0].maps)
    figure = Figure(figsize=(_PANEL * columns + _BAR, (_PANEL + _TITLE) * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for row, image in zip(panels, images, strict=True):
        _draw_picture(row[0], image)
        for axes, saliency_map in zip(row[1:], image.maps, strict=True):
            overlay = _draw_map(axes, image, saliency_map)
    bar = figure.colorbar(overlay, ax=list(panels.flat), shrink=min(0.85, 1.5 / rows), aspect=25)
    bar.set_label("evidence for the class, share of the map's largest", fontsize=8)
    bar.ax.set_facecolor("0.5")  # shows through as the picture does
    return figure


def _draw_picture(axes: Axes, image: ImageSaliency) -> None:
    pixels = image.pixels.permute(1, 2, 0).squeeze(-1).numpy()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title("\n".join(_title(image)), fontsize=8)
    axes.set_axis_off()


def _title(image: ImageSaliency) -> list[str]:
    """The file; the explained class, and the likeliest where it is another."""
    file, explained = _line("", image.path.name), f", {image.probability:.1%}"
    if image.predicted == image.explained:
        return [file, _line("", image.explained, explained)]
    likeliest = f", {image.predicted_probability:.1%}"
    return [
        file,
        _line("explained: ", image.explained, explained),
        _line("likeliest: ", image.predicted, likeliest),
    ]


def _line(before: str, name: str, behind: str = "") -> str:
    """A line of a title, with the middle of a long name left out."""
    room = _LONGEST_LINE - len(before) - len(behind)
    return literal(before + shortened(printable(name), room) + behind)


def _draw_map(axes: Axes, image: ImageSaliency, saliency_map: SaliencyMap) -> AxesImage:
    grey = image.pixels.double().mean(dim=0).numpy()
    # All colour is evidence: the picture below is grey, and of half its contrast, or evidence on white would
    # look stronger than on black.
    axes.imshow(grey, cmap="gray", vmin=-128, vmax=383)
    height, width = grey.shape
    values = np.array(saliency_map.values)
    overlay = axes.imshow(
        values,
        cmap="inferno",
        vmin=0,
        vmax=1,
        alpha=0.6,
        interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    title = f"block {saliency_map.block}, {values.shape[0]}x{values.shape[1]}"
    axes.set_title(title if saliency_map.has_evidence else f"{title}\nno evidence for the class", fontsize=8)
    axes.set_axis_off()
    return overlay
