"""The lines of metrics.jsonl."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

from densenets.files import read_json_lines
from densenets.training.run_folder import RunFolder
from densenets.training.run_log import EpochMetrics, RunLog, StepMetrics

STEP = StepMetrics(run_step=3, epoch=0, loss=2.5, learning_rate=0.1)
EPOCH = EpochMetrics(
    run_step=5,
    epoch=1,
    train_loss=2.0,
    train_top1_error=40.0,
    split="validation",
    evaluation_loss=1.5,
    evaluation_top1_error=30.0,
    seconds=4.5,
)


class Curves:
    """What TensorBoard's writer was told."""

    def __init__(self) -> None:
        self.points: dict[str, tuple[float, int]] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.points[name] = (value, step)


def written(folder: Path, metrics: StepMetrics | EpochMetrics) -> tuple[dict[str, Any], Curves]:
    """The line and the points of some metrics."""
    curves, bar = Curves(), Progress()
    run = RunFolder(folder)
    RunLog(run, bar, curves, total=5).metrics(metrics)
    (line,) = read_json_lines(run.metrics)
    return line, curves


def test_a_line_of_steps_and_its_points(tmp_path: Path) -> None:
    line, curves = written(tmp_path, STEP)
    assert line == {"kind": "step", "run_step": 3, "epoch": 0, "loss": 2.5, "learning_rate": 0.1}
    assert curves.points == {"loss": (2.5, 3), "learning_rate": (0.1, 3)}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_line_of_an_epoch_names_the_images_that_were_evaluated(tmp_path: Path, split: str) -> None:
    line, curves = written(tmp_path, dataclasses.replace(EPOCH, split=split))
    assert line == {
        "kind": "epoch",
        "run_step": 5,
        "epoch": 1,
        "train_loss": 2.0,
        "train_top1_error": 40.0,
        f"{split}_loss": 1.5,
        f"{split}_top1_error": 30.0,
        "seconds": 4.5,
    }
    assert curves.points[f"{split}_top1_error"] == (30.0, 5)


def test_a_line_of_an_epoch_that_was_not_evaluated_has_what_training_gave(tmp_path: Path) -> None:
    metrics = dataclasses.replace(EPOCH, evaluation_loss=None, evaluation_top1_error=None)
    line, curves = written(tmp_path, metrics)
    assert EPOCH.to_dict().keys() - line.keys() == {"validation_loss", "validation_top1_error"}
    assert line["train_top1_error"] == 40.0
    assert curves.points.keys() == {"train_loss", "train_top1_error", "seconds"}
