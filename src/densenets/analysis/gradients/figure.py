"""Signal and gradient by depth as a figure: a band a setting, a column a snapshot, a line a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from densenets.analysis.gradients.compute import GradientFlow, NetworkFlow
from densenets.analysis.gradients.gradients_config import SETTINGS
from densenets.data.dataset_info import DATASET_INFO
from densenets.figures.fonts import literal
from densenets.figures.series_style import series_style
from densenets.figures.write import write_figure

_QUANTITIES = (("gradient", "gradient (nats, RMS)"), ("signal", "signal (RMS)"))
_LINE_STYLES = ("-", "--", "-.", ":")
_PANEL_WIDTH, _PANEL_HEIGHT = 3.1, 2.3  # inches
_MARKERS_OF_A_LINE = 6
_SMOOTHED = 10  # steps of which the training loss is the mean
_HIGHEST_LOSS = 1.25  # by that of guessing: what is above it leaves the panel


class _Line(NamedTuple):
    """Style of the line of a network."""

    colour: str
    marker: str
    style: str
    number: int


def write_gradients(flow: GradientFlow, stem: Path) -> None:
    """Draw signal, gradient and training loss of all networks, as `stem`.png and `stem`.svg."""
    write_figure(gradients_figure(flow), stem)


def gradients_figure(flow: GradientFlow) -> Figure:
    """Gradients above signals, a band a setting and a column a snapshot, and the training loss beside them.

    A quantity has one scale in all panels, so have the losses. Where a value is None or 0 is a gap.
    """
    settings = list(dict.fromkeys(network.setting for network in flow.networks))
    models = list(dict.fromkeys(network.model for network in flow.networks))
    lines = {
        model: _Line(*series_style(number), _LINE_STYLES[number % len(_LINE_STYLES)], number)
        for number, model in enumerate(models)
    }
    size = (max(6.0, _PANEL_WIDTH * _columns(flow) + 0.4), 2 * _PANEL_HEIGHT * len(settings) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(
        f"Gradient and signal by depth ({flow.data}, batches of {flow.batch_size}, seed {flow.seed})"
    )
    bands = figure.subfigures(len(settings), 1, squeeze=False)[:, 0]
    for band, setting in zip(bands, settings, strict=True):
        band.suptitle(SETTINGS[setting], fontsize=11, fontweight="bold")
        networks = [network for network in flow.networks if network.setting == setting]
        _draw_band(band, flow, networks, lines)
    handles = [
        bands[0]
        .axes[0]
        .plot([], [], line.style, color=line.colour, marker=line.marker, label=literal(model))[0]
        for model, line in lines.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))
    return figure


def _columns(flow: GradientFlow) -> int:
    """A column a snapshot, and one for the loss where there was training."""
    return len(flow.steps) + (flow.steps[-1] > 0)


def _draw_band(
    band: SubFigure, flow: GradientFlow, networks: Sequence[NetworkFlow], lines: dict[str, _Line]
) -> None:
    grid = band.add_gridspec(len(_QUANTITIES), _columns(flow))
    for row, (quantity, label) in enumerate(_QUANTITIES):
        limits = _limits(flow, quantity)
        for column, step in enumerate(flow.steps):
            axes = band.add_subplot(grid[row, column])
            for network in networks:
                layers = network.snapshots[column].layers
                _draw(axes, [getattr(layer, quantity) for layer in layers], lines[network.model])
            axes.set_yscale("log")
            axes.set_ylim(limits)
            axes.yaxis.set_major_locator(LogLocator(numticks=7))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.tick_params(labelleft=column == 0, labelbottom=row == len(_QUANTITIES) - 1)
            if row == 0:
                axes.set_title(f"after {step} steps" if step else "at initialisation", fontsize=10)
            else:
                axes.set_xlabel("convolution, from the image to the classifier", fontsize=8)
            if column == 0:
                axes.set_ylabel(label, fontsize=9)
    if flow.steps[-1]:
        _draw_losses(band.add_subplot(grid[:, -1]), flow, networks, lines)


def _limits(flow: GradientFlow, quantity: str) -> tuple[float, float]:
    """A factor of 2 beyond all values of a quantity that a logarithmic axis can show."""
    values = [value for row in flow.rows() if (value := getattr(row.layer, quantity))]
    return (min(values) / 2, max(values) * 2) if values else (0.1, 1.0)


def _draw(axes: Axes, values: Sequence[float | None], line: _Line) -> None:
    """A line over 1, 2, 3, ..., with a few markers, which stand beside those of the other lines."""
    every = max(1, len(values) // _MARKERS_OF_A_LINE)
    axes.plot(
        range(1, len(values) + 1),
        [value or math.nan for value in values],
        line.style,
        color=line.colour,
        marker=line.marker,
        markersize=4,
        markevery=(line.number * every // 4 % every, every),
        linewidth=1.4,
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _draw_losses(
    axes: Axes, flow: GradientFlow, networks: Sequence[NetworkFlow], lines: dict[str, _Line]
) -> None:
    """Running means of the training losses, beside the loss of who guesses."""
    guessing = math.log(DATASET_INFO[flow.data].classes)
    for network in networks:
        _draw(axes, _running_means(network.training_losses), lines[network.model])
    axes.axhline(guessing, color="0.4", linewidth=0.8)
    axes.annotate(
        "guessing",
        (0.98, guessing),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.3",
    )
    axes.set_ylim(_loss_limits(flow, guessing))
    failed = [fill(f"{network.model}: {network.note}", 36) for network in networks if network.note]
    axes.text(0.03, 0.02, literal("\n".join(failed)), transform=axes.transAxes, fontsize=7.5)
    axes.set_title(f"training loss, rate {flow.learning_rate:g}", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.set_ylabel(f"nats, mean of the last {_SMOOTHED} steps", fontsize=9)


def _loss_limits(flow: GradientFlow, guessing: float) -> tuple[float, float]:
    """Around all means, but for those that are far above guessing, with room for words below."""
    means = [mean for network in flow.networks for mean in _running_means(network.training_losses)]
    shown = [guessing, *(mean for mean in means if mean is not None)]
    low, high = min(shown), min(max(shown), _HIGHEST_LOSS * guessing)
    return low - 0.2 * (high - low) - 0.02, high + 0.1 * (high - low) + 0.02


def _running_means(losses: Sequence[float | None]) -> list[float | None]:
    """The mean of the last steps at each step; None from where a loss is."""
    windows = [losses[max(0, end - _SMOOTHED) : end] for end in range(1, len(losses) + 1)]
    return [None if None in window else math.fsum(filter(None, window)) / len(window) for window in windows]
