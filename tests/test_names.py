"""Names of any script and any bytes: through a run, its files, its tables, its pictures and its page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densenets.checkpoint import read_checkpoint
from densenets.cli import main as cli
from densenets.files import read_json
from densenets.names import one_line, printable
from densenets.training.loop import train
from densenets.training.recipe import changed
from densenets.training.recipes import named_recipe

ODD = (
    "猫",
    "\U0010fffd" * 60,
    "caf\udce9",
    "it$x$ [red]y[b]",
    "हिन्दी",
    "a\nb\x1b[31m",
    "🐈",
    "x" * 200,
    "<b>&",
    "عربى",
    "_$",
)


@pytest.mark.parametrize(
    "name", ["plain", "Zürich 猫", "שלום 😀 हिन्दी", "a b", 'a,"b"', "$x$ [bold] \\n", ""]
)
def test_what_can_be_shown_stays_as_it_is(name: str) -> None:
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r\t", r"a\nb\r\t"),
        ("caf\udce9", r"caf\udce9"),
        ("\x1b[31mred\x00\x7f\x85", r"\x1b[31mred\x00\x7f\x85"),
        ("a\u2028b", r"a\u2028b"),
        ("a\uffff\ufffe", r"a\uffff\ufffe"),
    ],
)
def test_what_leaves_its_line_or_has_no_encoding_is_told(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert shown.encode("ascii")


def test_of_an_error_the_lines_are_joined() -> None:
    assert one_line(" first  one\n\n  second\x1b \n") == r"first  one second\x1b"


@pytest.fixture(scope="module")
def run_of_odd_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on two pictures of each class, in a folder of an odd name."""
    root = tmp_path_factory.mktemp("odd") / "données\udcff"
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ODD:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(os.fsencode(folder / f"{number}\udcfe.png"), "png")
    fields = {"model.name": "densenet-bc-10-4", "data.root": root, "data.image_size": 12, "data.workers": 0}
    fields |= {"training.epochs": 1, "training.device": "cpu", "training.tensorboard": False}
    train(changed(named_recipe("finetune"), fields), root.parent / "run")
    return root.parent / "run"


def test_a_run_keeps_every_name(run_of_odd_names: Path) -> None:
    evaluation = read_json(run_of_odd_names / "evaluation.json")
    assert {row["class"] for row in evaluation["per_class"]} == set(ODD)
    assert read_checkpoint(run_of_odd_names).classes == tuple(sorted(ODD))
    assert read_json(run_of_odd_names / "recipe.json")["data"]["root"].endswith("données\udcff")
    for file in run_of_odd_names.glob("*.json*"):
        file.read_bytes().decode()


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
@pytest.mark.slow
def test_a_terminal_of_another_encoding_shows_every_name(
    run_of_odd_names: Path, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "densenets", "evaluate", os.fspath(run_of_odd_names), "--workers", "0"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode()
    for name in (r"caf\udce9", r"a\nb\x1b[31m", "<b>&", "it$x$ [red]y[b]"):
        assert name in printed


def test_the_page_of_a_run_of_odd_names(run_of_odd_names: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert (
        cli.run(["report", str(run_of_odd_names), "--out", str(out), "--no-measure", "--workers", "0"]) == 0
    )
    page = out.read_bytes().decode()
    for name in ("猫", r"caf\udce9", "&lt;b&gt;&amp;", "🐈"):
        assert name in page
    assert json.dumps("<b>&") not in page
