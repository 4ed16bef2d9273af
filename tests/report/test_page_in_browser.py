"""The page in a real browser: nothing fails, nothing is fetched, and a layer says what `summary` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from densenets.models.layer_rows import LayerRow
from densenets.report.overview import Overview
from densenets.report.page import write_page

DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}


class Opened:
    """A page with what went wrong in it and what it asked for."""

    def __init__(self, browser: Any, file: Path, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector(".bk-Figure", state="attached")
        self.page.wait_for_timeout(300)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(message.text)


@pytest.fixture
def opened(browser: Any, digits_page: Path) -> Iterator[Any]:
    """Opens the digits' page with the settings given; every one is closed, after a look at its troubles."""
    pages: list[Opened] = []

    def open_page(file: Path = digits_page, **settings: Any) -> Opened:
        pages.append(Opened(browser, file, **(settings or DESKTOP)))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
        assert page.troubles == []


def test_nothing_fails_and_nothing_is_fetched(opened: Any, digits_page: Path) -> None:
    page = opened()
    asked = [url for url in page.requests if not url.startswith("data:")]
    assert asked == [digits_page.as_uri()]
    assert page.page.title().startswith("digits: ")


@pytest.mark.slow
def test_the_charts_are_drawn(opened: Any) -> None:
    page = opened().page
    assert page.locator(".bk-Figure").count() == 3
    for chart in page.locator(".bk-Figure").all():
        box = chart.bounding_box()
        assert box["width"] > 300
        assert box["height"] > 200


def says(overview: Overview, layer: LayerRow) -> list[str]:
    """What `summary` says of a dense layer, as the page writes it."""
    return [
        f"{layer.in_channels:,} channels from",
        f"{layer.new_channels:,} channels",
        f"{layer.out_channels:,} channels",
        "x".join(str(side) for side in layer.size),
        f"{layer.parameters:,}",
        f"{layer.multiply_adds:,}",
    ]


@pytest.mark.slow
def test_a_focused_layer_shows_what_summary_says(opened: Any, digits_overview: Overview) -> None:
    page = opened().page
    for layer in digits_overview.facts.layers:
        if not layer.name.startswith("denseblock"):
            continue
        block = layer.name[len("denseblock")]
        number = int(layer.name.rsplit("denselayer", 1)[1])
        page.get_by_role("button", name=f"{number}: {layer.name}", exact=True).focus()
        panel = page.locator(f"#panel{block}")
        text = panel.inner_text()
        assert layer.name in text
        for part in says(digits_overview, layer):
            assert part in text, (layer.name, part)
        # Its row of the heat map: a bar a source, as long as the source's share.
        assert digits_overview.reuse is not None
        weights = digits_overview.reuse.blocks[int(block) - 1].of_target(number - 1)
        shown = panel.locator("li span:last-child").all_inner_texts()
        assert shown == [f"{weight:.4g}" for weight in weights]
        widths = [bar.evaluate("bar => parseFloat(bar.style.width)") for bar in panel.locator("i").all()]
        assert widths == pytest.approx([100 * weight / max(weights) for weight in weights], abs=0.01)


@pytest.mark.slow
def test_transitions_and_the_classifier_show_theirs(opened: Any, digits_overview: Overview) -> None:
    page = opened().page
    rows = {layer.name: layer for layer in digits_overview.facts.layers}
    for block, name in ((1, "transition1"), (2, "transition2"), (3, "classifier")):
        page.locator(f"#block{block} button").last.focus()
        text = page.locator(f"#panel{block}").inner_text()
        assert name in text
        assert f"{rows[name].parameters:,}" in text
        assert f"{rows[name].in_channels:,} channels from" in text
    page.locator("#block2 button").first.focus()
    assert "transition1" in page.locator("#panel2").inner_text()


@pytest.mark.slow
def test_the_map_is_used_by_keyboard_alone(opened: Any) -> None:
    page = opened().page
    page.locator("#block1 button").first.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "b1n1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "b1n2"
    assert "denseblock1.denselayer2" in page.locator("#panel1").inner_text()
    page.keyboard.press("End")
    assert "transition1" in page.locator("#panel1").inner_text()
    page.keyboard.press("Home")
    assert "input of dense block 1" in page.locator("#panel1").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "b1n0"
    # Where the focus is can be seen.
    page.keyboard.press("ArrowRight")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2


@pytest.mark.slow
def test_a_chosen_layers_connections_stand_out(opened: Any) -> None:
    page = opened().page
    page.get_by_role("button", name="2: denseblock1.denselayer2", exact=True).hover()
    # It reads the input and layer 1, and is read by layer 3 and the transition.
    assert page.locator("#block1 path.reads").count() == 2
    assert page.locator("#block1 path.feeds").count() == 2
    assert page.locator('#block1 button[aria-pressed="true"]').inner_text() == "2"
    assert page.locator("#block1 button.reads").all_inner_texts() == ["in", "1"]
    assert page.locator("#block1 button.feeds").all_inner_texts() == ["3", "tr"]
    shown = page.locator("#block1 path.reads").first.evaluate("path => getComputedStyle(path).opacity")
    dimmed = page.locator("#block1 path:not(.reads):not(.feeds)").first
    assert shown == "1"
    assert float(dimmed.evaluate("path => getComputedStyle(path).opacity")) < 0.2


def lightness(colour: str) -> float:
    red, green, blue = (int(part) for part in colour.strip("rgb()").split(",")[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.slow
def test_both_colour_schemes_have_contrast(opened: Any) -> None:
    page = opened().page
    style = "getComputedStyle(document.body)"
    papers = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        paper, ink = (lightness(page.evaluate(f"{style}.{what}")) for what in ("backgroundColor", "color"))
        papers[scheme] = paper
        assert abs(paper - ink) > 0.7
    assert papers["dark"] < 0.2 < 0.9 < papers["light"]


def chart_corner(page: Any) -> float:
    """Lightness of a chart's corner, as it is on the screen."""
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(page.locator(".bk-Figure").first.screenshot())).convert("L")
    corner = picture.getpixel((3, 3))
    assert isinstance(corner, int)
    return corner / 255


@pytest.mark.slow
def test_charts_follow_when_the_scheme_changes(opened: Any) -> None:
    page = opened().page
    assert chart_corner(page) > 0.9
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert chart_corner(page) < 0.2
    # On paper they are light again.
    page.emulate_media(color_scheme="dark", media="print")
    page.wait_for_timeout(200)
    assert chart_corner(page) > 0.9


@pytest.mark.slow
def test_it_fits_a_phone_and_is_tapped(opened: Any) -> None:
    page = opened(**PHONE).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    button = page.get_by_role("button", name="4: denseblock3.denselayer4", exact=True)
    button.tap()
    assert "denseblock3.denselayer4" in page.locator("#panel3").inner_text()
    box = button.bounding_box()
    assert box["height"] >= 24
    assert box["width"] >= 24


@pytest.mark.slow
def test_the_print_shows_all_layers_and_no_controls(opened: Any) -> None:
    page = opened().page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details.printed table").is_visible()
    assert not page.locator(".panel").first.is_visible()
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("details.printed table").is_visible()


@pytest.mark.slow
def test_names_of_users_are_text_not_code(opened: Any, digits_overview: Overview, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    classes = (evil, *digits_overview.classes[1:])
    overview = dataclasses.replace(
        digits_overview,
        name=evil,
        classes=classes,
        mistakes=tuple(dataclasses.replace(m, true=evil, name=evil) for m in digits_overview.mistakes),
    )
    write_page(overview, tmp_path / "evil.html")
    page = opened(tmp_path / "evil.html", **DESKTOP).page
    assert page.locator("h1").inner_text() == evil
    assert page.locator("img[src=x]").count() == 0
