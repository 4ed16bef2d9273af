"""The figure of signal and gradient by depth: what is drawn is what was measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from densenets.analysis.gradients.compute import GradientFlow, NetworkFlow, Snapshot
from densenets.analysis.gradients.figure import gradients_figure, write_gradients
from densenets.analysis.gradients.gradients_config import SETTINGS, Setting
from densenets.analysis.gradients.layer_flow import LayerFlow


def snapshot(step: int, layers: int, factor: float | None) -> Snapshot:
    """Signals that halve by layer, and gradients that the factor multiplies; None for no numbers."""
    return Snapshot(
        step=step,
        loss=None if factor is None else 2.0,
        layers=tuple(
            LayerFlow(
                name=f"conv{number}",
                signal=None if factor is None else 0.5**number,
                gradient=None if factor is None else 1e-4 * factor**number,
                weight_gradient=None,
                relative_gradient=None,
            )
            for number in range(layers)
        ),
    )


def network(model: str, setting: Setting, steps: tuple[int, ...], **changes: Any) -> NetworkFlow:
    fields: dict[str, Any] = {
        "model": model,
        "setting": setting,
        "depth": 39,
        "snapshots": tuple(snapshot(step, 38, 1.2) for step in steps),
        "training_losses": tuple(2.3 - 0.01 * step for step in range(steps[-1])),
        "note": "",
    }
    return NetworkFlow(**{**fields, **changes})


def flow(*networks: NetworkFlow, steps: tuple[int, ...] = (0, 30)) -> GradientFlow:
    return GradientFlow(
        data="cifar10", steps=steps, batch_size=64, learning_rate=0.1, seed=0, networks=networks
    )


def two_by_two() -> GradientFlow:
    """Two networks in two settings; one of them breaks off."""
    steps = (0, 30)
    broken = network(
        "resnet38",
        "xavier",
        steps,
        snapshots=(snapshot(0, 37, 0.9), snapshot(30, 37, None)),
        training_losses=(7.0, 1e20, None),
        note="its loss is no number at step 3, where training ended",
    )
    return flow(
        network("densenet-40-12", "xavier", steps),
        broken,
        network("densenet-40-12", "paper", steps),
        network("resnet38", "paper", steps),
    )


def panels(figure: Figure) -> list[list[Axes]]:
    """The axes of each band: gradients by snapshot, signals by snapshot, losses."""
    return [band.axes for band in figure.subfigs]


def shown(axes: Axes) -> list[list[float]]:
    """The lines of a panel that are more than a handle of the legend."""
    return [list(np.asarray(line.get_ydata(), float)) for line in axes.lines if len(line.get_xdata()) > 0]  # type: ignore[arg-type]


def texts(svg: Path) -> str:
    """Every piece of text in a picture."""
    root = ElementTree.parse(svg).getroot()
    nodes = root.iter("{http://www.w3.org/2000/svg}text")
    return "\n".join("".join(node.itertext()).strip() for node in nodes)


def test_a_band_a_setting_and_a_column_a_snapshot() -> None:
    figure = gradients_figure(two_by_two())
    assert [band.get_suptitle() for band in figure.subfigs] == [SETTINGS["xavier"], SETTINGS["paper"]]
    for axes in panels(figure):
        assert len(axes) == 2 * 2 + 1
        titles = [a.get_title() for a in axes]
        assert titles == ["at initialisation", "after 30 steps", "", "", "training loss, rate 0.1"]
        assert [a.get_ylabel() for a in axes[::2]][:2] == ["gradient (nats, RMS)", "signal (RMS)"]


def test_the_lines_are_the_numbers() -> None:
    measured = two_by_two()
    for band, setting in zip(panels(gradients_figure(measured)), ("xavier", "paper"), strict=True):
        networks = [n for n in measured.networks if n.setting == setting]
        for place, (quantity, column) in enumerate(
            [("gradient", 0), ("gradient", 1), ("signal", 0), ("signal", 1)]
        ):
            expected = [[getattr(x, quantity) for x in n.snapshots[column].layers] for n in networks]
            for drawn, values in zip(shown(band[place]), expected, strict=True):
                assert drawn == pytest.approx([math.nan if v is None else v for v in values], nan_ok=True)


def test_a_quantity_has_one_logarithmic_scale_that_holds_all_of_it() -> None:
    measured = two_by_two()
    bands = panels(gradients_figure(measured))
    for places, quantity in (((0, 1), "gradient"), ((2, 3), "signal")):
        limits = {band[place].get_ylim() for band in bands for place in places}
        assert len(limits) == 1
        low, high = limits.pop()
        values = [value for row in measured.rows() if (value := getattr(row.layer, quantity))]
        assert 0 < low < min(values) < max(values) < high
        assert {band[place].get_yscale() for band in bands for place in places} == {"log"}


def test_losses_are_running_means_that_end_where_there_is_none() -> None:
    losses = tuple(float(n) for n in range(1, 31))
    steps = (0, 30)
    (band,) = panels(
        gradients_figure(flow(network("plain-38", "paper", steps, training_losses=losses), steps=steps))
    )
    means, guessing = shown(band[-1])
    assert means[:3] == [1, 1.5, 2]
    assert means[29] == pytest.approx(25.5)  # of 21 ... 30
    assert guessing == pytest.approx([math.log(10)] * 2)
    broken = shown(panels(gradients_figure(two_by_two()))[0][-1])[1]
    assert broken == pytest.approx([7.0, 5e19, math.nan], nan_ok=True)


def test_a_loss_beyond_all_bounds_leaves_the_panel_and_not_the_others_flat() -> None:
    low, high = panels(gradients_figure(two_by_two()))[0][-1].get_ylim()
    assert low < 2.0
    assert 2.3 < high < 3.5


def test_what_broke_off_is_said(tmp_path: Path) -> None:
    write_gradients(two_by_two(), tmp_path / "out" / "gradients")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gradients.png", "gradients.svg"]
    said = " ".join(texts(tmp_path / "out" / "gradients.svg").split())
    assert "resnet38: its loss is no number at step 3, where training ended" in said
    assert said.count("guessing") == 2


def test_networks_differ_in_colour_marker_and_line() -> None:
    models = [f"net-{n}" for n in range(6)]
    figure = gradients_figure(flow(*(network(model, "paper", (0, 30)) for model in models)))
    lines = [line for line in panels(figure)[0][0].lines if len(np.asarray(line.get_xdata())) > 0]
    assert len({line.get_color() for line in lines}) == 6
    assert len({line.get_marker() for line in lines}) == 6
    assert len({line.get_linestyle() for line in lines[:4]}) == 4
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == models


def test_before_training_there_is_no_loss_to_draw() -> None:
    (band,) = panels(gradients_figure(flow(network("plain-38", "he", (0,)), steps=(0,))))
    assert len(band) == 2
    assert [axes.get_title() for axes in band] == ["at initialisation", ""]


def test_networks_of_any_depth_fit_and_zeros_are_gaps(tmp_path: Path) -> None:
    dead = (LayerFlow(name="conv", signal=1.0, gradient=0.0, weight_gradient=0.0, relative_gradient=None),)
    networks = (
        network("short", "paper", (0,), snapshots=(Snapshot(step=0, loss=2.3, layers=dead),)),
        network("deep", "paper", (0,), snapshots=(snapshot(0, 1000, 0.99),)),
    )
    (band,) = panels(gradients_figure(flow(*networks, steps=(0,))))
    assert math.isnan(shown(band[0])[0][0])
    assert band[0].get_ylim()[0] > 0
    nothing = network("nothing", "paper", (0,), snapshots=(snapshot(0, 5, None),))
    write_gradients(flow(nothing, steps=(0,)), tmp_path / "nothing")


@pytest.mark.slow
def test_the_picture_is_of_a_size_for_pages_and_always_the_same(tmp_path: Path) -> None:
    for stem in ("rate-0.1", "again"):
        write_gradients(two_by_two(), tmp_path / stem)
    for ending in (".svg", ".png"):
        assert (tmp_path / f"rate-0.1{ending}").read_bytes() == (tmp_path / f"again{ending}").read_bytes()
    with Image.open(tmp_path / "again.png") as image:
        image.load()
        assert image.format == "PNG"
        assert 400 <= min(image.size) <= max(image.size) <= 2500


def test_names_are_no_markup(tmp_path: Path) -> None:
    write_gradients(flow(network("net_$5_$10", "paper", (0,)), steps=(0,)), tmp_path / "gradients")
    assert "net_$5_$10" in texts(tmp_path / "gradients.svg")
