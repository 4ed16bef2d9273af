"""Error and loss by epoch, of a run and of runs that belong together. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_MARKED_EPOCHS = 40  # with more, marks on the points of a curve run into each other


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Error and loss of a run after one epoch.

    Attributes:
        epoch: its number, from 1.
        split: the images that are evaluated after every epoch: "validation", or "test" where there are no
            validation images.
        train_error: top-1 error on the training images, in percent.
        evaluation_error: top-1 error on the split, in percent.
        train_loss: in nats; None where it was not a number, or was not read.
        evaluation_loss: on the split, likewise.
    """

    epoch: int
    split: str
    train_error: float
    evaluation_error: float
    train_loss: float | None
    evaluation_loss: float | None


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A quantity by epoch, on a run's training images and on its validation or test images.

    Attributes:
        label: of the quantity, with its unit.
        epochs: their numbers.
        training: the values on the training images; None where one is not a number.
        evaluation: the values on the validation or test images, likewise.
    """

    label: str
    epochs: list[int]
    training: list[float | None]
    evaluation: list[float | None]


@dataclass(frozen=True, kw_only=True)
class MeanErrors:
    """Errors after one epoch, means over the runs that got there.

    Attributes:
        epoch: its number, from 1.
        train_error: top-1 error on the training images, in percent.
        evaluation_error: top-1 error on the validation or test images, in percent.
        seeds: how many runs got there.
    """

    epoch: int
    train_error: float
    evaluation_error: float
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        return {
            "epoch": self.epoch,
            "train_error": self.train_error,
            "watched_error": self.evaluation_error,
            "seeds": self.seeds,
        }


def epochs_of(metrics: Iterable[Mapping[str, Any]]) -> tuple[Epoch, ...]:
    """The epochs among the lines of a metrics.jsonl."""
    return tuple(_epoch(line) for line in metrics if line["kind"] == "epoch")


def _epoch(line: Mapping[str, Any]) -> Epoch:
    def evaluated(quantity: str) -> Any:
        return line.get(f"test_{quantity}", line.get(f"validation_{quantity}"))

    return Epoch(
        epoch=line["epoch"],
        split="test" if "test_top1_error" in line else "validation",
        train_error=line["train_top1_error"],
        evaluation_error=evaluated("top1_error"),
        train_loss=line.get("train_loss"),
        evaluation_loss=evaluated("loss"),
    )


def evaluation_split(epochs: Iterable[Epoch]) -> str:
    """The images that a run evaluates after every epoch: "validation", or "test" if it has none."""
    return "test" if any(epoch.split == "test" for epoch in epochs) else "validation"


def error_curve(epochs: Sequence[Epoch]) -> LearningCurve:
    """The top-1 error by epoch."""
    return LearningCurve(
        label="top-1 error (%)",
        epochs=[epoch.epoch for epoch in epochs],
        training=[epoch.train_error for epoch in epochs],
        evaluation=[epoch.evaluation_error for epoch in epochs],
    )


def loss_curve(epochs: Sequence[Epoch]) -> LearningCurve:
    """The loss by epoch."""
    return LearningCurve(
        label="loss (nats)",
        epochs=[epoch.epoch for epoch in epochs],
        training=[epoch.train_loss for epoch in epochs],
        evaluation=[epoch.evaluation_loss for epoch in epochs],
    )


def mean_errors(runs: Iterable[Sequence[Epoch]]) -> tuple[MeanErrors, ...]:
    """Errors by epoch of runs that belong together, means over those that got there.

    Args:
        runs: the epochs of each.
    """
    by_number: dict[int, list[Epoch]] = {}
    for run in runs:
        for epoch in run:
            by_number.setdefault(epoch.epoch, []).append(epoch)
    return tuple(
        MeanErrors(
            epoch=number,
            train_error=statistics.fmean(epoch.train_error for epoch in epochs),
            evaluation_error=statistics.fmean(epoch.evaluation_error for epoch in epochs),
            seeds=len(epochs),
        )
        for number, epochs in sorted(by_number.items())
    )


def reported_split(splits: Iterable[str]) -> str:
    """The images of errors that stand side by side, by the split of each: "test" where there is none."""
    return " or ".join(sorted(set(splits))) or "test"
