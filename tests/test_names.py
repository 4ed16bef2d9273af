"""Names of any script and any bytes: through a run, its files, its tables, its pictures and its page."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from densenets import cli
from densenets.checkpoint import read_checkpoint
from densenets.files import read_json, write_csv, write_json
from densenets.names import readable
from densenets.report.fonts import drawable
from densenets.report.plots import write_confusion
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
    ("text", "shown"),
    [
        ("кот 猫 é 🐈", "кот 猫 é 🐈"),
        ("caf\udce9", r"caf\udce9"),
        ("a\nb\tc\x1b[0m\x7f\x9b", r"a\nb\tc\x1b[0m\x7f\x9b"),
        ("\u2028", r"\u2028"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_json_and_csv_hold_every_name(tmp_path: Path) -> None:
    write_json(tmp_path / "names.json", list(ODD))
    (tmp_path / "names.json").read_bytes().decode()
    assert read_json(tmp_path / "names.json") == list(ODD)
    write_csv(tmp_path / "names.csv", [{"name": name} for name in ODD])
    with (tmp_path / "names.csv").open(encoding="utf-8", newline="") as file:
        found = [row["name"] for row in csv.DictReader(file)]
    assert found == [name.replace("\udce9", r"\udce9") for name in ODD]


def test_a_character_without_a_font_is_drawn_as_an_escape() -> None:
    assert drawable("Ünï кот\nλ") == "Ünï кот\nλ"
    assert drawable("\U0010fffd") == r"\U0010fffd"


def test_a_confusion_matrix_has_every_name(tmp_path: Path) -> None:
    # Warnings, such as of a missing glyph, are errors here.
    write_confusion(np.eye(len(ODD), dtype=int).tolist(), ODD, tmp_path / "confusion")
    ElementTree.parse(tmp_path / "confusion.svg")
    Image.open(tmp_path / "confusion.png").load()


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
