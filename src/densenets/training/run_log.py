"""Logging of a run: a progress bar with messages, metrics.jsonl, TensorBoard curves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.progress import Progress

from densenets.extras import has_extra
from densenets.names import printable
from densenets.progress import progress_bar
from densenets.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """Metrics of the training steps since the last such line.

    Attributes:
        run_step: steps of the run that are done.
        epoch: epochs that are done.
        loss: mean over the images of these steps, in nats.
        learning_rate: of the last step.
    """

    run_step: int
    epoch: int
    loss: float
    learning_rate: float

    def to_dict(self) -> dict[str, Any]:
        """The line of metrics.jsonl."""
        return {"kind": "step", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """Metrics of an epoch.

    Attributes:
        run_step: steps of the run that are done.
        epoch: epochs that are done.
        train_loss: mean over the epoch's images, in nats.
        train_top1_error: over the same images, in percent.
        split: the images that are evaluated: validation or test.
        evaluation_loss: on the split, in nats; None where the epoch was not evaluated.
        evaluation_top1_error: on the split, in percent; None likewise.
        seconds: spent on training and on these evaluations, over all starts.
    """

    run_step: int
    epoch: int
    train_loss: float
    train_top1_error: float
    split: str
    evaluation_loss: float | None
    evaluation_top1_error: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The line of metrics.jsonl."""
        fields = {
            "kind": "epoch",
            "run_step": self.run_step,
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "train_top1_error": self.train_top1_error,
            f"{self.split}_loss": self.evaluation_loss,
            f"{self.split}_top1_error": self.evaluation_top1_error,
            "seconds": self.seconds,
        }
        return {name: value for name, value in fields.items() if value is not None}


class Log(Protocol):
    """Interface of the logs of a run."""

    def step(self, done: int, text: str) -> None:
        """Set the progress to `done` steps of the run, with `text` beside the bar."""

    def metrics(self, metrics: StepMetrics | EpochMetrics) -> None:
        """Add a line to metrics.jsonl, and its numbers to the curves."""

    def message(self, text: str) -> None:
        """Print a line for people."""


class SilentLog:
    """The log of every rank but the first: does nothing."""

    def step(self, done: int, text: str) -> None:
        """Do nothing."""

    def metrics(self, metrics: StepMetrics | EpochMetrics) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""


class RunLog:
    """The log of the first rank."""

    def __init__(self, folder: RunFolder, bar: Progress, curves: Any, total: int) -> None:
        self._folder, self._bar, self._curves = folder, bar, curves
        self._task = bar.add_task("", total=total)

    def step(self, done: int, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, description=text)

    def metrics(self, metrics: StepMetrics | EpochMetrics) -> None:
        """Add a line to metrics.jsonl, and its numbers to the curves."""
        line = metrics.to_dict()
        self._folder.add_metrics(line)
        if self._curves is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self._curves.add_scalar(name, value, metrics.run_step)

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def run_log(folder: RunFolder, total: int, done: int, *, tensorboard: bool) -> Iterator[RunLog]:
    """Open the log of a run of `total` steps, `done` of which were finished before this start.

    Without the extra `tensorboard` there are no curves, and a line on standard error that says so.
    """
    draws = tensorboard and has_extra("tensorboard", "TensorBoard curves")
    curves = _curves(folder.path / "tensorboard", done) if draws else None
    bar = progress_bar(estimate_over=30)
    try:
        with bar:
            yield RunLog(folder, bar, curves, total)
    finally:
        if curves is not None:
            curves.close()


def _curves(path: Path, done: int) -> Any:
    from torch.utils.tensorboard.writer import SummaryWriter

    # Points of an interrupted start that are later than the saved state are dropped.
    return SummaryWriter(str(path), purge_step=done)
