"""A run's folder: what is in it, who may write to it, and how it goes on after an interruption.

recipe.json            the resolved recipe
data.json              classes, and which images play which role
environment.json       versions, device, date, command; a list, one entry a start
metrics.jsonl          one JSON a line: steps and epochs
checkpoints/           last.safetensors, best.safetensors, and state.pt to go on from
tensorboard/           curves
evaluation.json        the result, with confusion.png and curves.png beside it

Others add to it: step-cost-*.json, what a training step took where it was measured, and report.html.
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
    """How far a run has come. Everything random follows from it and the recipe.

    Attributes:
        epoch: epochs that are done.
        step: steps of the next epoch that are done.
        loss: sum over the images of those steps, on all ranks.
        wrong: images among them whose first guess was wrong.
        images: how many there were.
        best_error: lowest top-1 error on the validation images so far, percent.
        seconds: time spent on training and watching it, over all starts.
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
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.data = path / "data.json"
        self.state = path / "checkpoints" / "state.pt"
        self.evaluation = path / "evaluation.json"

    def checkpoint(self, which: str) -> Path:
        """Where the "last" or "best" checkpoint lies."""
        return self.path / "checkpoints" / f"{which}.safetensors"

    def check(self, recipe: Recipe, *, resume: bool) -> None:
        """Check that a recipe may run here.

        Raises:
            InputError: the folder holds a run and `resume` is not asked, or another recipe's run, or
                files that are no run's.
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
        what = f"{file} is no recipe of a run; it is broken or not ours"
        changed = differences(recipe.to_dict(), read(dict[str, Any], read_json(file), what))
        if changed:
            raise InputError(
                f"{self.path} holds another recipe's run; they differ in {', '.join(changed[:5])}; "
                "name another folder with --out"
            )

    def check_data(self, data: DataSplits) -> None:
        """Check that the data is that of the state in the folder: labels, roles and order follow from it.

        A set that grew or shrank is refused too: the order of an epoch, and which images are held out, depend
        on the list of files. Images that are left out because they cannot be decoded stay in that list.

        Raises:
            InputError: it isn't; the line says in what it differs.
        """
        noted: dict[str, Any] = {}
        if self.data.exists():
            what = f"{self.data} is no list of a run's data; it is broken or not ours"
            noted = read(dict[str, Any], read_json(self.data), what)
        last = self.checkpoint("last")
        if not self.data.exists() and last.exists():  # an older version's run
            noted = {"classes": list(read_description(last).classes)}
        if difference := data.difference(noted):
            raise InputError(
                f"{self.path} cannot go on: {difference}; put the files back as they were (a broken one can "
                "stay, and be left out by --data.skip-broken), or begin a new run in another --out"
            )

    def begin(self, recipe: Recipe, environment: dict[str, Any], data: dict[str, Any]) -> None:
        """Write down what starts here, and add this start to the list of starts."""
        if not (self.path / "recipe.json").exists():
            write_json(self.path / "recipe.json", recipe.to_dict())
        if not self.state.exists():
            write_json(self.data, data)
        file = self.path / "environment.json"
        write_json(file, [*read_starts(file), environment])

    def save_state(self, progress: RunProgress, training: dict[str, Any]) -> None:
        """Write the state to go on from, atomically.

        Args:
            progress: how far the run is.
            training: `TrainStep.state_dict`; "learner" in the file, as older versions wrote it.

        Raises:
            InputError: the disk is full; the older state is untouched.
        """
        state = {"progress": asdict(progress), "learner": training}
        write_atomically(self.state, lambda file: torch.save(state, file))

    def load_state(self) -> tuple[RunProgress, dict[str, Any]] | None:
        """The state to go on from, if one was saved.

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
        """Add a line to the metrics; the line's "run_step" says after which step of the run."""
        with disk_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json_text(line) + "\n")

    def drop_metrics_after(self, run_step: int, epochs: int) -> None:
        """Drop what was measured beyond the state that the run goes on from, and a half-written line.

        Args:
            run_step: steps that are done.
            epochs: that are finished. After the last step of an epoch its line may be there although the
                state doesn't know of it.
        """
        kept = [
            line
            for line in read_metrics(self.metrics, EpochEnd)
            if line["run_step"] <= run_step and (line["kind"] != "epoch" or line["epoch"] <= epochs)
        ]
        text = "".join(json_text(line) + "\n" for line in kept)
        write_bytes(self.metrics, text.encode())
