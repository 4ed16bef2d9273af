from __future__ import annotations

from typing import Any

import pytest

from densenets.cli.catalog import model_rows, print_models, print_recipes, recipe_rows
from densenets.cli.evaluate import print_evaluation
from densenets.cli.summary import print_summary
from densenets.models.densenet_rows import block_table
from densenets.models.layer_table import layer_table
from densenets.models.registry import NETWORKS, named_config
from densenets.ops.execution import Choice
from densenets.training.recipes import recipe_names

_EXECUTION = Choice("fused", True, "native kernels, avx2")

EVALUATION = {
    "per_class": [
        {"class": "ant", "images": 1234, "top1_error": 12.345, "most_often_taken_for": "bee"},
        {"class": "bee", "images": 0, "top1_error": None, "most_often_taken_for": None},
    ],
    "top1_error": 12.345,
    "top5_error": 0.5,
    "loss": 1.23456,
    "images": 1234,
    "images_per_second": 567.8,
}


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # rich takes these for a terminal, with a terminal's width and colours.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def rows(printed: str) -> dict[str, list[str]]:
    """The words of each line behind its first."""
    return {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}


def test_the_papers_worked_example_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(block_table(1, 5, 4, (32, 32), bottleneck=False), _EXECUTION)
    printed = capsys.readouterr().out
    assert "the layers read 1, 5, 9, 13, 17 and the transition reads 21; 15 connections" in printed
    reads = {name: words[1] for name, words in rows(printed).items() if "denselayer" in name}
    assert list(reads.values()) == ["1", "5", "9", "13", "17"]
    assert rows(printed)["transition1"][:2] == ["16x16", "21"]


def test_a_summary_ends_with_its_totals(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(layer_table("densenet-40-12", named_config("densenet-40-12"), (32, 32)), _EXECUTION)
    printed = capsys.readouterr().out
    assert "densenet-40-12 for 3x32x32 inputs" in printed
    # 3 blocks of 12 layers; 1,019,722 parameters, as counted from the paper's rules.
    assert rows(printed)["total"][:2] == ["234", "1,019,722"]
    assert len([name for name in rows(printed) if "denselayer" in name]) == 36


def test_every_model_is_listed_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    print_models(model_rows())
    printed = capsys.readouterr().out
    listed = rows(printed)
    assert set(NETWORKS) <= set(listed)
    assert listed["densenet121"][:4] == ["121", "32", "3x224x224", "7,978,856"]
    assert "cifar100+ 24.42, svhn 1.79" in " ".join(printed.split())


def test_every_recipe_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    print_recipes(recipe_rows())
    listed = rows(capsys.readouterr().out)
    assert set(recipe_names()) <= set(listed)
    assert listed["cifar10-densenet-bc-100-12"][:3] == ["300", "64", "769,162"]
    assert listed["cifar10-densenet-bc-100-12"][-1] == "4.51"
    assert listed["finetune"][2:] == ["-"] * 4  # of a folder nothing is known


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (999, "999"),
        (1000, "1 k"),
        (572_000_000, "572 M"),
        (2_850_000_000, "2.85 G"),
        (999_700_000, "1 G"),
        (None, "-"),
    ],
)
def test_costs_are_short(capsys: pytest.CaptureFixture[str], number: int | None, text: str) -> None:
    row: dict[str, Any] = {"name": "some", "epochs": 1, "batch_size": 2, "parameters": 3}
    costs = {"multiply_adds": number, "training_multiply_adds": None, "published_error": None}
    print_recipes([row | costs])
    assert rows(capsys.readouterr().out)["some"] == ["1", "2", "3", *text.split(), "-", "-"]


def test_an_evaluation_is_printed_by_class(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(EVALUATION)
    printed = capsys.readouterr().out
    assert rows(printed)["ant"] == ["1234", "12.35", "bee"]
    assert rows(printed)["bee"] == ["0", "-"]
    assert "top-1 error 12.35%, top-5 error 0.50%, loss 1.2346 on 1234 images; 568 images/s" in printed


@pytest.mark.parametrize("name", ["[other]", "tags[/b]", "a:cat:"])
def test_class_names_are_no_markup(capsys: pytest.CaptureFixture[str], name: str) -> None:
    row = {"class": name, "images": 1, "top1_error": 100.0, "most_often_taken_for": name}
    print_evaluation(EVALUATION | {"per_class": [row]})
    assert rows(capsys.readouterr().out)[name] == ["1", "100.00", name]
