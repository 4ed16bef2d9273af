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
        split: the images that were evaluated after it: "validation", or "test" where there are no validation
            images; None where the epoch was not evaluated.
        train_error: top-1 error on the training images, in percent.
        evaluation_error: top-1 error on the split, in percent; None likewise.
        train_loss: in nats; None where it was not a number, or was not read.
        evaluation_loss: on the split, likewise.
    """

    epoch: int
    split: str | None
    train_error: float
    evaluation_error: float | None
    train_loss: float | None
    evaluation_loss: float | None


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A quantity by epoch, on a run's training images and on its validation or test images.

    Attributes:
        label: of the quantity, with its unit.
        training: on the training images, by the number of the epoch; None where it is not a number.
        evaluation: on the validation or test images, likewise, of the epochs that were evaluated.
    """

    label: str
    training: dict[int, float | None]
    evaluation: dict[int, float | None]


@dataclass(frozen=True, kw_only=True)
class MeanErrors:
    """Errors after one epoch, means over the runs that were evaluated after it.

    Attributes:
        epoch: its number, from 1.
        train_error: top-1 error on the training images, in percent.
        evaluation_error: top-1 error on the validation or test images, in percent.
        seeds: how many runs were evaluated after it.
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

    splits = (split for split in ("test", "validation") if f"{split}_top1_error" in line)
    return Epoch(
        epoch=line["epoch"],
        split=next(splits, None),
        train_error=line["train_top1_error"],
        evaluation_error=evaluated("top1_error"),
        train_loss=line.get("train_loss"),
        evaluation_loss=evaluated("loss"),
    )


def evaluation_split(epochs: Iterable[Epoch]) -> str:
    """The images that a run evaluates between epochs: "validation", or "test" if it has none."""
    return "test" if any(epoch.split == "test" for epoch in epochs) else "validation"


def error_curve(epochs: Sequence[Epoch]) -> LearningCurve:
    """The top-1 error by epoch."""
    return LearningCurve(
        label="top-1 error (%)",
        training={epoch.epoch: epoch.train_error for epoch in epochs},
        evaluation={epoch.epoch: epoch.evaluation_error for epoch in epochs if epoch.split is not None},
    )


def loss_curve(epochs: Sequence[Epoch]) -> LearningCurve:
    """The loss by epoch."""
    return LearningCurve(
        label="loss (nats)",
        training={epoch.epoch: epoch.train_loss for epoch in epochs},
        evaluation={epoch.epoch: epoch.evaluation_loss for epoch in epochs if epoch.split is not None},
    )


def mean_errors(runs: Iterable[Sequence[Epoch]]) -> tuple[MeanErrors, ...]:
    """Errors by epoch of runs that belong together, means over those that were evaluated after it.

    Args:
        runs: the epochs of each.
    """
    by_number: dict[int, list[tuple[float, float]]] = {}
    for run in runs:
        for epoch in run:
            if epoch.evaluation_error is not None:
                by_number.setdefault(epoch.epoch, []).append((epoch.train_error, epoch.evaluation_error))
    return tuple(
        MeanErrors(
            epoch=number,
            train_error=statistics.fmean(train for train, _ in errors),
            evaluation_error=statistics.fmean(evaluation for _, evaluation in errors),
            seeds=len(errors),
        )
        for number, errors in sorted(by_number.items())
    )


def reported_split(splits: Iterable[str]) -> str:
    """The images of errors that stand side by side, by the split of each: "test" where there is none."""
    return " or ".join(sorted(set(splits))) or "test"
