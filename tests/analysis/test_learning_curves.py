"""Epochs from the lines of a run, and means over runs."""

from __future__ import annotations

from typing import Any

import pytest

from densenets.analysis.learning_curves import (
    Epoch,
    epochs_of,
    error_curve,
    evaluation_split,
    loss_curve,
    mean_errors,
    reported_split,
)


def lines(split: str, *errors: float, loss: float | None = 0.5) -> list[dict[str, Any]]:
    """A run's lines: one for a step and one for the end of each epoch."""
    found: list[dict[str, Any]] = []
    for number, error in enumerate(errors, start=1):
        found.append({"kind": "step", "run_step": number, "epoch": number - 1, "loss": 2.0})
        values = {"train_top1_error": 2 * error, "train_loss": 1.0}
        values |= {f"{split}_top1_error": error, f"{split}_loss": loss}
        found.append({"kind": "epoch", "run_step": number, "epoch": number, **values})
    return found


@pytest.mark.parametrize("split", ["validation", "test"])
def test_lines_become_epochs_with_the_images_that_were_evaluated(split: str) -> None:
    epochs = epochs_of(lines(split, 40.0, 30.0))
    assert epochs[1] == Epoch(
        epoch=2, split=split, train_error=60.0, evaluation_error=30.0, train_loss=1.0, evaluation_loss=0.5
    )
    assert evaluation_split(epochs) == split
    assert evaluation_split(()) == "validation"


def test_a_loss_that_was_no_number_stays_out_of_the_curve() -> None:
    epochs = epochs_of(lines("test", 40.0, 30.0, loss=None))
    assert loss_curve(epochs).evaluation == {1: None, 2: None}
    assert error_curve(epochs).training == {1: 80.0, 2: 60.0}


def unevaluated(line: dict[str, Any]) -> dict[str, Any]:
    """An epoch's line without what the validation or test images gave."""
    return {name: value for name, value in line.items() if not name.startswith(("validation_", "test_"))}


def test_the_line_of_the_evaluated_images_passes_over_epochs_that_were_not_evaluated() -> None:
    first, second, third = (line for line in lines("test", 40.0, 30.0, 20.0) if line["kind"] == "epoch")
    epochs = epochs_of([unevaluated(first), second, third])
    assert (epochs[0].split, epochs[0].evaluation_error, epochs[0].train_error) == (None, None, 80.0)
    assert evaluation_split(epochs) == "test"
    for curve, value in ((error_curve(epochs), 30.0), (loss_curve(epochs), 0.5)):
        assert list(curve.training) == [1, 2, 3]
        assert list(curve.evaluation) == [2, 3]
        assert curve.evaluation[2] == value


def test_means_leave_out_runs_that_were_not_evaluated_after_an_epoch() -> None:
    first, second = (line for line in lines("validation", 40.0, 30.0) if line["kind"] == "epoch")
    runs = [epochs_of([first, second]), epochs_of([unevaluated(first), second])]
    assert [(point.epoch, point.evaluation_error, point.seeds) for point in mean_errors(runs)] == [
        (1, 40.0, 1),
        (2, 30.0, 2),
    ]


def test_means_are_over_the_runs_that_got_there() -> None:
    runs = [epochs_of(lines("validation", *errors)) for errors in ((40.0, 30.0), (50.0,))]
    assert [point.to_dict() for point in mean_errors(runs)] == [
        {"epoch": 1, "train_error": 90.0, "watched_error": 45.0, "seeds": 2},
        {"epoch": 2, "train_error": 60.0, "watched_error": 30.0, "seeds": 1},
    ]


def test_errors_side_by_side_name_all_their_images() -> None:
    assert reported_split(["validation", "test", "test"]) == "test or validation"
    assert reported_split([]) == "test"
