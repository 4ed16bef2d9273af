"""A run's folder: its files, checks that a run may use it, and the state to resume from.

recipe.json            the resolved recipe
data.json              classes, and count and digest of each split's images
environment.json       versions, device, date, command; a list, one entry a start
metrics.jsonl          one JSON a line: steps and epochs
checkpoints/           last.safetensors, best.safetensors, and state.pt to resume from
tensorboard/           curves
evaluation.json        the result, with confusion.png and curves.png beside it

Other commands add step-cost-*.json, the measured cost of a training step, and report.html.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from densenets.checkpoint import read_description
from densenets.data.splits import DataSplits
from densenets.errors import InputError
from densenets.files import (
    disk_errors,
    json_text,
    read_json,
    write_atomically,
    write_bytes,
    write_json,
)
from densenets.records import EpochEnd, read_metrics, read_starts
from densenets.schema import read
from densenets.torch_files import read_torch_file
from densenets.training.recipe import Recipe, differences

_LARGEST_COUNT = 2**53  # of steps and images; a double holds it exactly


@dataclass
class RunProgress:
    """Progress of a run. All random numbers follow from it and the recipe.

    Attributes:
        epoch: number of finished epochs.
        step: number of finished steps of the current epoch.
        loss: sum over the images of those steps, on all ranks.
        wrong: images among them whose first guess was wrong.
        images: number of images of those steps.
        best_error: lowest top-1 error on the validation images so far, percent.
        seconds: time of training and evaluation, over all starts.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    wrong: float = 0.0
    images: int = 0
    best_error: float = float("inf")
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not all(
            0 <= count <= _LARGEST_COUNT for count in (self.epoch, self.step, self.images, self.wrong)
        ):
            raise InputError(f"epoch, step, images and wrong must be counts, got {self}")
        if not math.isfinite(self.loss) or not 0 <= self.seconds < math.inf or not self.best_error >= 0:
            raise InputError(f"loss, seconds and best_error must be numbers, got {self}")
        if (self.step > 0) != (self.images > 0):
            raise InputError(
                f"step and images must both be 0 or both be above 0, got {self.step} and {self.images}"
            )

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.step, self.loss, self.wrong, self.images = 0, 0.0, 0.0, 0


class RunFolder:
    """The paths of a run's files, and their reading and writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.data = path / "data.json"
        self.state = path / "checkpoints" / "state.pt"
        self.evaluation = path / "evaluation.json"

    def checkpoint(self, which: str) -> Path:
        """The path of the "last" or "best" checkpoint."""
        return self.path / "checkpoints" / f"{which}.safetensors"

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Check that a recipe may run in this folder.

        Raises:
            InputError: the folder holds a run and `resume` is False, or another recipe's run, or files that
                are no run's.
        """
        if not (self.path / "recipe.json").exists():
            others = [p.name for p in self.path.glob("*") if p.name != ".lock"]
            if others:
                raise InputError(
                    f"{self.path} holds files that are no run's ({others[0]}); name a new folder with --out"
                )
            return
        if not resume:
            raise InputError(
                f"{self.path} holds a run; go on with it by --resume, or name another folder with --out"
            )
        file = self.path / "recipe.json"
        error_start = f"{file} is no recipe of a run; it is broken or not ours"
        differing = differences(recipe.to_dict(), read(dict[str, Any], read_json(file), error_start))
        if differing:
            raise InputError(
                f"{self.path} holds another recipe's run; they differ in {', '.join(differing[:5])}; "
                "name another folder with --out"
            )

    def check_data(self, data: DataSplits) -> None:
        """Check that the data is that of the run so far: labels, splits and order depend on it.

        A set that grew or shrank is refused too: the order of an epoch, and which images are held out, depend
        on the list of files. Images that are left out because they cannot be decoded stay in that list.

        Raises:
            InputError: it is not; the text says how it differs.
        """
        saved: dict[str, Any] = {}
        if self.data.exists():
            error_start = f"{self.data} is no list of a run's data; it is broken or not ours"
            saved = read(dict[str, Any], read_json(self.data), error_start)
        last = self.checkpoint("last")
        if not self.data.exists() and last.exists():  # an older version's run
            saved = {"classes": list(read_description(last).classes)}
        if difference := data.difference(saved):
            raise InputError(
                f"{self.path} cannot go on: {difference}; put the files back as they were (a broken one can "
                "stay, and be left out by --data.skip-broken), or begin a new run in another --out"
            )

    def begin(self, recipe: Recipe, environment: dict[str, Any], data: dict[str, Any]) -> None:
        """Write recipe.json and data.json of a new run, and add this start to environment.json."""
        if not (self.path / "recipe.json").exists():
            write_json(self.path / "recipe.json", recipe.to_dict())
        if not self.state.exists():
            write_json(self.data, data)
        file = self.path / "environment.json"
        write_json(file, [*read_starts(file), environment])

    def save_state(self, progress: RunProgress, training: dict[str, Any]) -> None:
        """Write the state to resume from, atomically.

        Args:
            progress: of the run.
            training: `TrainStep.state_dict`; "learner" in the file, as older versions wrote it.

        Raises:
            InputError: the disk is full; the older state is untouched.
        """
        state = {"progress": asdict(progress), "learner": training}
        write_atomically(self.state, lambda file: torch.save(state, file))

    def load_state(self) -> tuple[RunProgress, dict[str, Any]] | None:
        """Read the state to resume from; None if none was saved.

        Raises:
            InputError: the file is damaged.
        """
        if not self.state.exists():
            return None
        advice = "remove it to train from the start, or train into another --out"
        try:
            state = read_torch_file(self.state)
            if not isinstance(state, dict) or not isinstance(state.get("learner"), dict):
                raise InputError("it holds no state of a run")
            return read(RunProgress, state.get("progress"), "progress"), state["learner"]
        except InputError as error:
            raise InputError(f"{self.state} is damaged; {advice} ({error})") from error

    def add_metrics(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl; its "run_step" is the number of finished steps of the run."""
        with disk_errors(self.metrics), self.metrics.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json_text(line) + "\n")

    def drop_metrics_after(self, run_step: int, epochs: int) -> None:
        """Drop the metrics of later steps than the state that the run resumes from, and a half-written line.

        Args:
            run_step: number of finished steps.
            epochs: number of finished epochs. An epoch's line may have been written before its state was.
        """
        kept_lines = [
            line
            for line in read_metrics(self.metrics, EpochEnd)
            if line["run_step"] <= run_step and (line["kind"] != "epoch" or line["epoch"] <= epochs)
        ]
        text = "".join(json_text(line) + "\n" for line in kept_lines)
        write_bytes(self.metrics, text.encode())
