"""Sections of the page, as its template shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from densenets import __version__
from densenets.analysis.learning_curves import Epoch
from densenets.figures.numbers import images_text
from densenets.report import content
from densenets.report.charts import LegendLine, curve_legend, stored_legend
from densenets.report.confusion import ConfusionPair, ConfusionRow, confusion_pairs, confusion_rows
from densenets.report.connection_map import BlockMap, NodeText, block_maps, node_texts
from densenets.report.overview import Overview


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The head and the foot of the page, and the section on recipe and versions.

    Attributes:
        name: of the run or the checkpoint.
        network: its name.
        lead: the line below the name.
        headline: labels and values of the numbers at the head.
        sections: anchors and titles.
        commands: that made the run, and the page.
        tables: of recipe and versions, as titles and pairs.
        footer: the last line.
    """

    name: str
    network: str
    lead: str
    headline: Sequence[tuple[str, str]]
    sections: Sequence[tuple[str, str]]
    commands: Sequence[str]
    tables: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    footer: str


@dataclass(frozen=True, kw_only=True)
class ResultSection:
    """The evaluation, the learning curves and the confusion matrix.

    Attributes:
        sentence: the result; empty without one.
        no_result: what is said in its place.
        curves: labels and charts.
        curve_legend: of all curves.
        evaluation_split: the images that were evaluated between epochs.
        epochs: of the run.
        classes: names of the classes, where the confusion matrix is a table.
        confusion_rows: its rows; none where it is a chart.
        confusion_pairs: the most frequent confusions, where it is a chart.
        confusion_chart: empty where it is a table.
    """

    sentence: str
    no_result: str
    curves: Sequence[tuple[str, Markup]]
    curve_legend: Sequence[LegendLine]
    evaluation_split: str
    epochs: Sequence[Epoch]
    classes: Sequence[str]
    confusion_rows: Sequence[ConfusionRow]
    confusion_pairs: Sequence[ConfusionPair]
    confusion_chart: Markup | str


@dataclass(frozen=True, kw_only=True)
class MistakesSection:
    """The worst mistakes.

    Attributes:
        shown: the worst first.
        images: the images among which they are, such as "test images".
        note: why there are none, in a sentence; empty if there are.
    """

    shown: Sequence[content.ShownMistake]
    images: str
    note: str


@dataclass(frozen=True, kw_only=True)
class NetworkSection:
    """The network: the maps of its connections, and its layer table.

    Attributes:
        sentence: what the network is.
        blocks: a map of each dense block.
        no_blocks: what is said in their place.
        nodes: texts of the maps' nodes, by their keys.
        layer_columns: of the layer table.
        layer_rows: of the layer table.
    """

    sentence: str
    blocks: Sequence[BlockMap]
    no_blocks: str
    nodes: Mapping[str, NodeText]
    layer_columns: Sequence[str]
    layer_rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class CostSection:
    """Activations that training stores, and measured steps.

    Attributes:
        stored_chart: of the stored activations, layer by layer; empty where they are not counted.
        stored_legend: of its lines.
        stored_rows: execution, activations of an image, and what they are.
        steps: None where no step was measured.
    """

    stored_chart: Markup | str
    stored_legend: Sequence[LegendLine]
    stored_rows: Sequence[Sequence[str]]
    steps: content.MeasuredSteps | None


def frame(overview: Overview) -> Frame:
    """The head and the foot of an overview's page."""
    sections = [("result", "Result"), ("mistakes", "Worst mistakes"), ("network", "The network")]
    sections += [("reuse", "Feature reuse")] if overview.reuse else []
    sections += [("cost", "Memory and cost"), ("recipe", "Recipe and versions")]
    what = "A checkpoint"
    if overview.run:
        what = "A run" if overview.run.evaluation else "An unfinished run"
    return Frame(
        name=overview.name,
        network=overview.network,
        lead=f"{what} of {overview.network}: {overview.source}",
        headline=content.headline(overview),
        sections=sections,
        commands=content.commands(overview),
        tables=content.tables(overview),
        footer=f"Made by densenets {__version__} on {overview.machine['date']}.",
    )


def result_section(overview: Overview, charts: Mapping[str, Markup]) -> ResultSection:
    """The result of an overview, with its charts by their names."""
    run, rows = overview.run, confusion_rows(overview)
    split = run.evaluation_split if run else ""
    return ResultSection(
        sentence=content.result_sentence(overview),
        no_result="Nothing was evaluated: the run has not come to its end, or images are missing.",
        curves=[(f"{name} by epoch", charts[name]) for name in ("error", "loss") if name in charts],
        curve_legend=curve_legend(split),
        evaluation_split=split,
        epochs=run.epochs if run else (),
        classes=overview.classes if rows else (),
        confusion_rows=rows,
        confusion_pairs=confusion_pairs(overview) if overview.evaluation and not rows else [],
        confusion_chart=charts.get("confusion", ""),
    )


def mistakes_section(overview: Overview) -> MistakesSection:
    """The worst mistakes of an overview."""
    return MistakesSection(
        shown=content.shown_mistakes(overview.mistakes),
        images=images_text(overview.mistakes_split),
        note=overview.mistakes_note,
    )


def network_section(overview: Overview) -> NetworkSection:
    """The network of an overview."""
    reuse, facts = overview.reuse, overview.facts
    columns, rows = content.layer_table(facts)
    return NetworkSection(
        sentence=content.network_sentence(overview),
        blocks=block_maps(facts, reuse) if reuse else [],
        no_blocks=f"A {overview.config.title} has no dense blocks, so there is no map of connections.",
        nodes=node_texts(facts, reuse) if reuse else {},
        layer_columns=columns,
        layer_rows=rows,
    )


def cost_section(overview: Overview, charts: Mapping[str, Markup]) -> CostSection:
    """Memory and cost of an overview, with its charts by their names."""
    return CostSection(
        stored_chart=charts.get("stored", ""),
        stored_legend=stored_legend(),
        stored_rows=content.stored_rows(overview.facts) if "stored" in charts else [],
        steps=content.measured_steps(overview),
    )
