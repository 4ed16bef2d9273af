"""What stands in the files of a run's folder, as far as anybody reads it: types to check them against.

Other fields may stand there too: they are kept, and nobody computes with them. Needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from densenets.errors import InputError
from densenets.files import read_json, read_json_lines
from densenets.schema import read

Count = Annotated[int, Meta(ge=0, le=2**53)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Loss = Annotated[float, Meta(ge=-1e30, le=1e30)] | None  # None where it was not a number
Row = dict[str, Any]


class Reported(TypedDict):
    """The field of a recipe.json that says which checkpoint is the result; the rest is `Recipe`."""

    training: _ReportedTraining


class _ReportedTraining(TypedDict):
    report: Literal["last", "best", "auto"]


class RunStep(TypedDict):
    """The field of a line of metrics.jsonl that says after which step of the run it was written."""

    run_step: Count


class MetricsLine(RunStep):
    """What every line of metrics.jsonl has."""

    kind: str


class EpochEnd(MetricsLine):
    """What every line of an epoch has."""

    epoch: Count


class CurvePoint(EpochEnd):
    """Errors of an epoch's line; of validation and test one is there."""

    train_top1_error: Percent
    validation_top1_error: NotRequired[Percent]
    test_top1_error: NotRequired[Percent]


class EpochLine(CurvePoint):
    """An epoch's line, whole."""

    train_loss: Loss
    validation_loss: NotRequired[Loss]
    test_loss: NotRequired[Loss]
    seconds: Seconds


class Result(TypedDict):
    """What a table needs of evaluation.json."""

    top1_error: Percent
    split: NotRequired[Literal["", "all", "training", "validation", "test"]]
    training_seconds: NotRequired[Seconds]


class RunResult(Result):
    """An evaluation.json, whole."""

    top5_error: Percent
    loss: Loss
    images: Annotated[int, Meta(ge=1, le=2**53)]
    confusion: list[list[Count]]


class Start(TypedDict):
    """An entry of environment.json."""

    command: list[str]


class Failure(TypedDict):
    """Why a run of `densenets reproduce` failed."""

    reason: str


def read_metrics(path: Path, epoch: type[MetricsLine] = EpochLine) -> list[Row]:
    """The lines of a metrics.jsonl; none if there is no such file.

    Args:
        path: the file.
        epoch: what the line of an epoch has.

    Raises:
        InputError: a line is broken, or is none of a run's.
    """
    lines = read_json_lines(path)
    for number, line in enumerate(lines, start=1):
        what = f"line {number} of {path} is none of a run's metrics"
        if read(MetricsLine, line, what)["kind"] == "epoch":
            read(epoch, line, what)
            if not _is_watched(line, epoch):
                raise InputError(f"{what}: it lacks what the validation or test images gave")
    return lines


def _is_watched(line: Row, epoch: type[MetricsLine]) -> bool:
    """Whether an epoch's line has what is needed of the images that the run was watched on."""
    quantities = {CurvePoint: ("top1_error",), EpochLine: ("top1_error", "loss")}.get(epoch, ())
    return any(all(f"{split}_{q}" in line for q in quantities) for split in ("validation", "test"))


def read_result(path: Path, classes: Sequence[str] | None = None) -> Row | None:
    """What stands in an evaluation.json; None if there is no such file.

    Args:
        path: the file.
        classes: of the network that was evaluated; without them only the error is read.

    Raises:
        InputError: it is broken, or no evaluation of these classes.
    """
    if not path.exists():
        return None
    what = f"{path} is no evaluation of the run; make it again with: densenets train ... --resume"
    value: Row = read_json(path)
    if classes is None:
        read(Result, value, what)
        return value
    confusion = read(RunResult, value, what)["confusion"]
    if len(confusion) != len(classes) or any(len(row) != len(classes) for row in confusion):
        raise InputError(f"{what}: $.confusion: {len(classes)} rows and columns are needed, one a class")
    return value


def read_starts(path: Path) -> list[Row]:
    """The starts of a run that its environment.json tells; none if there is no such file.

    Raises:
        InputError: it is broken, or tells of no starts.
    """
    if not path.exists():
        return []
    value: list[Row] = read_json(path)
    read(list[Start], value, f"{path} is no list of a run's starts; remove it to go on without")
    return value
