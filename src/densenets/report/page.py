"""The page of a run or a checkpoint: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bokeh.plotting import figure
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from densenets.analysis.confusion_figure import MOST_NAMED_CLASSES
from densenets.analysis.learning_curves import error_curve, loss_curve
from densenets.files import write_bytes
from densenets.names import printable
from densenets.report.charts import bokeh_script, confusion_chart, curve_chart, embedded, stored_chart
from densenets.report.heat_map import heat_maps
from densenets.report.overview import Overview
from densenets.report.sections import (
    cost_section,
    frame,
    mistakes_section,
    network_section,
    result_section,
)

_TEMPLATE = "page.html.jinja"


def write_page(overview: Overview, path: Path) -> int:
    """Write the page of a run or a checkpoint, atomically.

    Returns:
        Its bytes.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    page = page_text(overview).encode(errors="backslashreplace")
    write_bytes(path, page)
    return len(page)


def page_text(overview: Overview) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=PackageLoader("densenets.report"),
        autoescape=True,
        undefined=StrictUndefined,
        # What is of a user has names of any bytes in it; what is markup is ours.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script, divs = embedded(_charts(overview))
    charts = {name: Markup(div) for name, div in divs.items()}
    network = network_section(overview)
    return environment.get_template(_TEMPLATE).render(
        frame=frame(overview),
        result=result_section(overview, charts),
        mistakes=mistakes_section(overview),
        network=network,
        heat=heat_maps(overview.reuse) if overview.reuse else None,
        cost=cost_section(overview, charts),
        nodes={key: asdict(text) for key, text in network.nodes.items()},
        css=_source(environment, "page.css"),
        js=_source(environment, "page.js"),
        bokeh=_script(bokeh_script() if charts else ""),
        charts_script=_script(script),
    )


def _charts(overview: Overview) -> dict[str, figure]:
    """The charts of the page, by their names."""
    charts = {}
    if overview.facts.has_stored_bytes:
        charts["stored"] = stored_chart(overview.facts)
    if overview.run and overview.run.epochs:
        epochs, split = overview.run.epochs, overview.run.evaluation_split
        charts["error"] = curve_chart(error_curve(epochs), split)
        charts["loss"] = curve_chart(loss_curve(epochs), split)
    if overview.evaluation and len(overview.classes) > MOST_NAMED_CLASSES:
        charts["confusion"] = confusion_chart(overview.evaluation.confusion, overview.classes)
    return charts


def _source(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return _script(text)


def _script(text: str) -> Markup:
    """Code of ours or of Bokeh inside the page; what it shows of a user's is JSON."""
    assert "</script" not in text.lower()
    return Markup(text)
