"""The figures of drawings: their files, and the widths of texts that the layout is made of."""

from __future__ import annotations

import string
from itertools import combinations
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

from densenets.analysis.drawing.compute import draw_dense_block, draw_network
from densenets.analysis.drawing.drawing import Drawing, Role, Text
from densenets.analysis.drawing.figure import FILLS, drawing_figure, source_colour, write_drawing
from densenets.analysis.drawing.text_size import text_width, wrapped
from densenets.errors import InputError
from densenets.models.densenet_rows import block_config, block_table
from densenets.models.layer_table import layer_table
from densenets.models.network_input import for_input
from densenets.models.registry import named_config

SVG = "{http://www.w3.org/2000/svg}"


def block() -> Drawing:
    config = block_config(1, 5, 4, 2, bottleneck=False)
    return draw_dense_block(config, block_table(1, 5, 4, (32, 32), bottleneck=False))


def network(name: str, title: str = "") -> Drawing:
    config, sides = for_input(named_config(name), "")
    return draw_network(title or name, config, layer_table(name, config, sides))


@pytest.mark.parametrize(
    "name", ["", "densenet-bc-40-12", "densenet121", "resnet50", "fractalnet-20", "highway-19"]
)
def test_every_text_lies_on_the_page_and_within_its_bounds(name: str) -> None:
    drawing = network(name) if name else block()
    figure = drawing_figure(drawing)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [mark for mark in drawing.marks if isinstance(mark, Text)]
    shown = figure.axes[0].texts
    assert [text.get_text() for text in shown] == [text.text for text in texts]
    per_point = figure.dpi / 72
    left, bottom, _, _ = drawing.bounds
    for text, mark in zip(shown, texts, strict=True):
        extent = text.get_window_extent(renderer)
        assert extent.x0 >= 0
        assert extent.y0 >= 0
        assert extent.x1 <= figure.bbox.width
        assert extent.y1 <= figure.bbox.height
        x0, y0, x1, y1 = mark.bounds
        assert extent.x0 / per_point + left >= x0 - 0.6
        assert extent.x1 / per_point + left <= x1 + 0.6
        assert extent.y0 / per_point + bottom >= y0 - 1
        assert extent.y1 / per_point + bottom <= y1 + 1


@pytest.mark.parametrize("bold", [False, True])
def test_the_width_of_a_text_is_no_less_than_its_glyphs(bold: bool) -> None:
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    characters = string.ascii_letters + string.digits + string.punctuation.replace("$", "") + "→×…₀₉"
    # Ten of each, for a glyph is wider than the ink of it.
    widths = {
        character: TextPath((0, 0), character * 10, size=10, prop=font).get_extents().width
        for character in characters
    }
    too_wide = {c: width for c, width in widths.items() if width > text_width(c * 10, 10, bold=bold)}
    assert too_wide == {}
    # Nor is it much more, of what our drawings say.
    text = "1×1 conv, 2×2 average pool, 1,024 → 512 channels, Dense block"
    ink = TextPath((0, 0), text, size=10, prop=font).get_extents().width
    assert text_width(text, 10, bold=bold) < 1.15 * ink


def test_notes_are_wrapped_between_words() -> None:
    text = "Each layer reads all layers before it."
    lines = wrapped(text, 8, 100)
    assert " ".join(lines) == text
    assert len(lines) > 1
    assert all(text_width(line, 8) <= 100 for line in lines)
    assert wrapped("long" * 40, 8, 100) == ["long" * 40]


def test_an_svg_holds_its_numbers_as_text(tmp_path: Path) -> None:
    write_drawing(block(), tmp_path / "block.svg")
    root = ElementTree.parse(tmp_path / "block.svg").getroot()
    shown = {"".join(node.itertext()) for node in root.iter(f"{SVG}text")}
    assert {"reads 1", "reads 5", "reads 9", "reads 13", "reads 17", "reads 21", "x₅", "4 maps"} <= shown
    assert "5 layers, growth rate k = 4, 1 → 21 channels, 15 connections, maps of 32×32" in shown
    width, height = block().size
    assert float(str(root.get("width")).removesuffix("pt")) == pytest.approx(width, abs=0.01)
    assert float(str(root.get("height")).removesuffix("pt")) == pytest.approx(height, abs=0.01)


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "PNG"])
def test_the_same_drawing_gives_the_same_file(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in ("first", "second")]
    for path in paths:
        write_drawing(network("densenet-10-4"), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    beginning = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix.lower()]
    assert paths[0].read_bytes().startswith(beginning)


def test_a_png_is_as_large_as_the_drawing(tmp_path: Path) -> None:
    drawing = network("densenet121")
    write_drawing(drawing, tmp_path / "network.png")
    with Image.open(tmp_path / "network.png") as picture:
        assert picture.size == tuple(int(length / 72 * 150) for length in drawing.size)
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert {colour for _, colour in colours} >= {_bytes(FILLS[role]) for role in ("layer", "transition")}


def _bytes(colour: str) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in to_rgb(colour))


def test_a_png_that_nobody_could_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"at most 32,000 .* take \.svg"):
        write_drawing(network("densenet-10-4", title="long" * 1000), tmp_path / "network.png")
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_characters_are_drawn(tmp_path: Path) -> None:
    write_drawing(network("densenet-10-4", title="runs/猫 $x$ <b>&\x1b"), tmp_path / "network.svg")
    root = ElementTree.parse(tmp_path / "network.svg").getroot()
    assert r"runs/猫 $x$ <b>&\x1b" in {"".join(node.itertext()) for node in root.iter(f"{SVG}text")}


def _lightness(colour: str) -> float:
    """L* of CIELAB, 0 to 100, which a grey print and every eye can see."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


def test_colours_differ_in_lightness() -> None:
    assert FILLS.keys() == set(get_args(Role))
    lightness = {role: _lightness(colour) for role, colour in FILLS.items() if role != "panel"}
    for first, second in combinations(lightness.values(), 2):
        assert abs(first - second) >= 5
    # Black text on them can be read.
    assert min(lightness.values()) > 60
    sources = [_lightness(source_colour(source / 5)) for source in range(6)]
    assert sources == sorted(sources)
    assert sources[-1] < 80  # on white


def test_a_figure_is_as_large_as_its_drawing() -> None:
    figure = drawing_figure(block())
    assert isinstance(figure, Figure)
    assert tuple(figure.get_size_inches() * 72) == pytest.approx(block().size)
