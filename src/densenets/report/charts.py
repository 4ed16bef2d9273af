"""The page's charts, by Bokeh. Their colours are the page's CSS variables, so they follow light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.embed import components
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources

from densenets.analysis.learning_curves import MOST_MARKED_EPOCHS, LearningCurve
from densenets.figures.series_style import COLOURS
from densenets.models.layer_rows import STORED_BYTES, LayerTable

_HEIGHT, _SQUARE = 300, 540  # pixels
_BLUE, _ORANGE, _GREEN, _PINK, *_ = COLOURS
_EXECUTIONS = {
    "reference": (_ORANGE, "solid"),
    "recompute": (_PINK, "dashed"),
    "fused": (_BLUE, "solid"),
    "fused-lean": (_GREEN, "dotted"),
}


@dataclass(frozen=True)
class LegendLine:
    """A line of a chart, for the page's own legend.

    Attributes:
        name: what the line shows.
        colour: as #RRGGBB.
        dash: solid, dashed or dotted, as CSS and Bokeh call it.
    """

    name: str
    colour: str
    dash: str


def bokeh_script() -> str:
    """Bokeh's own JavaScript library."""
    return "\n".join(Resources(mode="inline", minified=True, components=["bokeh"]).js_raw)


def embedded(charts: Mapping[str, figure]) -> tuple[str, dict[str, str]]:
    """JavaScript that draws charts, and for each chart's name its HTML element."""
    if not charts:
        return "", {}
    script, divs = components(dict(charts), wrap_script=False)
    return script, divs


def curve_legend(split: str) -> list[LegendLine]:
    """The lines of a learning curve: on the training images, and on the validation or test images."""
    return [LegendLine("training", _ORANGE, "dashed"), LegendLine(split, _BLUE, "solid")]


def stored_legend() -> list[LegendLine]:
    """The lines of the stored activations, one an execution."""
    return [LegendLine(name, colour, dash) for name, (colour, dash) in _EXECUTIONS.items()]


def curve_chart(curve: LearningCurve, split: str) -> figure:
    """A learning curve.

    Args:
        curve: of at least one epoch.
        split: the images that were evaluated, "validation" or "test".
    """
    chart = _chart("epoch", curve.label)
    for values, style in zip((curve.training, curve.evaluation), curve_legend(split), strict=True):
        source = ColumnDataSource({"epoch": list(values), "value": list(values.values())})
        line = chart.line(
            "epoch", "value", source=source, color=style.colour, line_dash=style.dash, line_width=2
        )
        if len(curve.training) <= MOST_MARKED_EPOCHS:
            chart.scatter("epoch", "value", source=source, color=style.colour, size=5)
        tips = [("epoch", "@epoch"), (f"{style.name} {curve.label}", "@value{0.000}")]
        chart.add_tools(HoverTool(renderers=[line], tooltips=tips, mode="vline"))
    chart.y_range.update(start=0)
    return chart


def stored_chart(facts: LayerTable) -> figure:
    """Activations that training has stored behind every layer, in each execution."""
    chart = _chart("layer, from the image to the classifier", "activations stored so far (MiB an image)")
    names = [layer.name for layer in facts.layers]
    for style in stored_legend():
        quantity = STORED_BYTES[style.name]
        stored = np.cumsum([getattr(layer, quantity) for layer in facts.layers]) / 2**20
        source = ColumnDataSource({"place": list(range(1, len(names) + 1)), "stored": stored, "name": names})
        line = chart.line(
            "place", "stored", source=source, color=style.colour, line_dash=style.dash, line_width=2
        )
        tips = [("layer", "@name"), (style.name, "@stored{0.00} MiB")]
        chart.add_tools(HoverTool(renderers=[line], tooltips=tips))
    return chart


def confusion_chart(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> figure:
    """The confusion matrix of many classes as an image, rows in percent of their class."""
    counts = np.array(confusion, dtype=float)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    count = len(classes)
    chart = _chart("predicted class, by number", "true class, by number")
    chart.update(sizing_mode="scale_width", width=_SQUARE, height=_SQUARE, max_width=_SQUARE)
    chart.grid.visible = False
    # An image's first row is the lowest.
    pixels = np.round(shares).astype(np.uint8)
    chart.image([pixels], x=0, y=0, dw=count, dh=count, palette="Viridis256", level="image")
    chart.update(x_range=Range1d(start=0, end=count), y_range=Range1d(start=count, end=0))
    chart.add_tools(
        HoverTool(tooltips=[("predicted, true", "$x{0}, $y{0}"), ("percent of the true class", "@image")])
    )
    return chart


def _chart(x: str, y: str) -> figure:
    chart = figure(
        height=_HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_label=x,
        y_axis_label=y,
        output_backend="svg",
    )
    chart.axis.axis_label_text_font_style = "normal"
    return chart
