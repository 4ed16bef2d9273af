"""The plan and the results as text, and the figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from densenets.analysis.efficiency.figure import write_comparison
from densenets.analysis.learning_curves import MeanErrors
from densenets.figures.numbers import duration
from densenets.profiling.measured_step import StepFigures
from densenets.records import RunResult
from densenets.reproduce.plan_cost import PlanRow
from densenets.reproduce.results import ResultRow
from densenets.reproduce.tables import print_plan, print_results, write_markdown

STEP = StepFigures(forward_ms=0.61, backward_ms=1.234, optimizer_ms=0.056, step_ms=1.9, memory_bytes=2**27)


def results(*errors: float) -> tuple[RunResult, ...]:
    return tuple(RunResult(top1_error=error, training_seconds=4000.0) for error in errors)


def row(**changes: Any) -> ResultRow:
    fields: dict[str, Any] = {
        "network": "plain-20",
        "series": "plain",
        "recipe": "cifar10-own-plain-20",
        "column": "cifar10+",
        "parameters": 269_722,
        "multiply_adds": 40_551_040,
        "paper_error": 8.75,
        "results": results(9.0, 9.5),
        "failed": {},
        "step": STEP,
        "batch": 64,
        "curves": tuple(
            MeanErrors(epoch=n, train_error=50 / n, evaluation_error=60 / n, seeds=2) for n in (1, 2)
        ),
    }
    return ResultRow(**{**fields, **changes})


EMPTY = row(
    network="resnet20", series="ResNet", recipe="cifar10-own-resnet20", results=(),
    failed={0: "out of [red]luck"}, step=StepFigures(), batch=None, paper_error=None, curves=(),
)  # fmt: skip


def test_results_keep_the_papers_figures_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_results([row(), EMPTY], "a title")
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert lines["plain-20"][1:] == [
        "cifar10+", "269,722", "40.6", "M", "8.75", "9.25", "±", "0.35", "2", "0.61", "1.23", "128.00",
        "MiB", "1.1", "h",
    ]  # fmt: skip
    assert lines["resnet20"][4:] == ["M", "-", "failed", "0", "-", "-", "-", "-"]
    assert "cifar10-own-resnet20, seed 0 failed: out of [red]luck" in printed
    assert "in batches of 64" in printed


def test_markdown_is_the_same_table(tmp_path: Path) -> None:
    write_markdown([row(results=results(9.25)), EMPTY], "a title", "a machine", tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "**a title**"
    header, rule, first, second = lines[2:6]
    assert header.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert "| 8.75 | 9.25 | 1 |" in first
    assert "| - | failed | 0 |" in second
    assert text.rstrip().endswith("a machine")


def test_a_plan_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    plan = PlanRow(
        recipe="cifar10-own-plain-20",
        network="plain-20",
        columns=("cifar10+",),
        parameters=269_722,
        multiply_adds=40_551_040,
        epochs=8,
        steps=1600,
        runs=2,
        training_multiply_adds=2 * 10**13,
        step_seconds=0.09,
        step_failed=None,
        seconds_left=7200.0,
        states={"new": 1, "cut": 0, "done": 1, "failed": 0},
    )
    unknown = dataclasses.replace(
        plan, recipe="x", step_seconds=None, seconds_left=None, step_failed="no luck"
    )
    print_plan([plan, unknown], "a title")
    printed = " ".join(capsys.readouterr().out.split())
    assert "cifar10-own-plain-20 269,722 8 2 1 20 T 90 ms 2.0 h" in printed
    assert "total 4 2 40 T at least 2.0 h" in printed
    assert "x: no step could be measured: no luck" in printed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (200_000, "2.3 days"),
     (1e9, "31.7 years")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("with_paper", [False, True])
@pytest.mark.slow
def test_the_figure_shows_every_series_and_the_paper_only_where_it_belongs(
    with_paper: bool, tmp_path: Path
) -> None:
    rows = [row(), row(network="plain-56", parameters=853_018, results=results(8.0, 8.0)), EMPTY]
    write_comparison(
        rows, "what $it$ is", tmp_path / "figure", evaluated_on="test images", with_paper=with_paper
    )
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.size[0] > 1000
    svg = (tmp_path / "figure.svg").read_text()
    texts = "".join(ElementTree.fromstring(svg).itertext())
    for said in ("plain", "ResNet", "what $it$ is", "multiply-adds", "ms an image", "MiB", "epoch"):
        assert said in texts, said
    # The paper's marks are hollow, and joined by a dotted line.
    dotted = svg.count("stroke-dasharray: 1,1.65")
    assert (dotted > 0) == with_paper


def test_a_figure_of_nothing_is_still_one(tmp_path: Path) -> None:
    write_comparison([EMPTY], "nothing", tmp_path / "figure", evaluated_on="test images", with_paper=True)
    assert (tmp_path / "figure.svg").exists()
