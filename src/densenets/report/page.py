"""The page of a run or a checkpoint: one HTML file that needs nothing but a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from densenets import __version__
from densenets.figures.numbers import images_text
from densenets.files import write_bytes
from densenets.names import printable
from densenets.report import content
from densenets.report.charts import (
    bokeh_script,
    confusion_chart,
    curve_charts,
    curve_legend,
    embedded,
    stored_chart,
    stored_legend,
)
from densenets.report.confusion import MOST_NAMED_CLASSES, confusion_pairs, confusion_rows
from densenets.report.connection_map import block_maps, node_data
from densenets.report.heat_map import heat_maps
from densenets.report.overview import Overview

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
    script, charts = embedded(_charts(overview))
    markup = {name: Markup(div) for name, div in charts.items()}
    return environment.get_template(_TEMPLATE).render(
        **_frame(overview),
        **_result(overview, markup),
        **_network(overview),
        **_cost(overview, markup),
        css=_source(environment, "page.css"),
        js=_source(environment, "page.js"),
        bokeh=_script(bokeh_script() if charts else ""),
        charts_script=_script(script),
    )


def _charts(overview: Overview) -> dict[str, Any]:
    charts = stored_chart(overview.facts)
    if overview.run:
        charts |= curve_charts(overview.run.epochs, overview.run.evaluation_split)
    if overview.evaluation and len(overview.classes) > MOST_NAMED_CLASSES:
        charts |= confusion_chart(overview.evaluation.confusion, overview.classes)
    return charts


def _frame(overview: Overview) -> dict[str, Any]:
    sections = [("result", "Result"), ("mistakes", "Worst mistakes"), ("network", "The network")]
    sections += [("reuse", "Feature reuse")] if overview.reuse else []
    sections += [("cost", "Memory and cost"), ("recipe", "Recipe and versions")]
    what = "A run" if overview.run else "A checkpoint"
    return {
        "name": overview.name,
        "network": overview.network,
        "lead": f"{what} of {overview.network}: {overview.source}",
        "headline": content.headline(overview),
        "sections": sections,
        "commands": content.commands(overview),
        "tables": content.tables(overview),
        "footer": f"Made by densenets {__version__} on {overview.machine['date']}.",
    }


def _result(overview: Overview, charts: dict[str, Markup]) -> dict[str, Any]:
    run, rows = overview.run, confusion_rows(overview)
    curves = [(f"{name} by epoch", charts[name]) for name in ("error", "loss") if name in charts]
    return {
        "result": content.result_sentence(overview),
        "no_result": "Nothing was evaluated: the run has not come to its end, or images are missing.",
        "curves": curves,
        "curve_legend": curve_legend(run.evaluation_split) if run else [],
        "evaluation_split": run.evaluation_split if run else "",
        "epochs": run.epochs if run else (),
        "confusion": {
            "classes": overview.classes if rows else (),
            "rows": rows,
            "pairs": confusion_pairs(overview) if overview.evaluation and not rows else [],
            "chart": charts.get("confusion", ""),
        },
        "mistakes": content.shown_mistakes(overview.mistakes),
        "mistakes_images": images_text(overview.mistakes_split),
        "mistakes_note": overview.mistakes_note,
    }


def _network(overview: Overview) -> dict[str, Any]:
    reuse, facts = overview.reuse, overview.facts
    columns, rows = content.layer_table(facts)
    return {
        "network_sentence": content.network_sentence(overview),
        "blocks": block_maps(facts, reuse) if reuse else [],
        "no_blocks": f"A {overview.config.title} has no dense blocks, so there is no map of connections.",
        "node_data": node_data(facts, reuse) if reuse else {},
        "layer_columns": columns,
        "layer_rows": rows,
        "heat": heat_maps(reuse) if reuse else None,
    }


def _cost(overview: Overview, charts: dict[str, Markup]) -> dict[str, Any]:
    stored = None
    if "stored" in charts:
        stored = {
            "chart": charts["stored"],
            "legend": stored_legend(),
            "rows": content.stored_rows(overview.facts),
        }
    return {"stored": stored, "costs": content.measured_steps(overview)}


def _source(environment: Environment, name: str) -> Markup:
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return _script(text)


def _script(text: str) -> Markup:
    """Code of ours or of Bokeh inside the page; what it shows of a user's is JSON."""
    assert "</script" not in text.lower()
    return Markup(text)
