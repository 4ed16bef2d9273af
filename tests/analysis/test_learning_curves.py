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
    assert loss_curve(epochs).evaluation == [None, None]
    assert (error_curve(epochs).epochs, error_curve(epochs).training) == ([1, 2], [80.0, 60.0])


def test_means_are_over_the_runs_that_got_there() -> None:
    runs = [epochs_of(lines("validation", *errors)) for errors in ((40.0, 30.0), (50.0,))]
    assert [point.to_dict() for point in mean_errors(runs)] == [
        {"epoch": 1, "train_error": 90.0, "watched_error": 45.0, "seeds": 2},
        {"epoch": 2, "train_error": 60.0, "watched_error": 30.0, "seeds": 1},
    ]


def test_errors_side_by_side_name_all_their_images() -> None:
    assert reported_split(["validation", "test", "test"]) == "test or validation"
    assert reported_split([]) == "test"
