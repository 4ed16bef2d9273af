"""A finished run on real digits, its page, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from training_runs import small_recipe

from densenets.evaluation_options import EvaluationOptions
from densenets.report.overview import Overview, make_overview
from densenets.report.overview_config import OverviewConfig
from densenets.report.page import write_page
from densenets.training.loop import train
from densenets.training.recipe import changed

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A browser that was just installed looks for updates and for its maker's hosts.
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def digits_overview(tmp_path_factory: pytest.TempPathFactory) -> Overview:
    """Of a DenseNet-BC with blocks of 3, 2 and 4 layers, trained for two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    recipe = changed(
        small_recipe(tensorboard=False), {"model.name": "densenet-bc-22-8", "model.block_layers": (3, 2, 4)}
    )
    train(recipe, folder)
    config = OverviewConfig(source=folder, evaluation=EvaluationOptions(), mistakes=5, measure=False)
    return make_overview(config)


@pytest.fixture(scope="session")
def digits_page(digits_overview: Overview, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    path = tmp_path_factory.mktemp("pages") / "report.html"
    write_page(digits_overview, path)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; where there is none the test is skipped, but not where everything must be tested."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        missing = f"no browser is installed ({', '.join(_BROWSERS)})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=list(_QUIET))
        yield opened
        opened.close()
