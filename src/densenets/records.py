"""What stands in the files of a run's folder, as far as anybody reads it: types to check them against.

Other fields may stand there too: they are kept, and nobody computes with them. Needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """Errors of an epoch's line; of validation and test one is there where the epoch was evaluated."""

    train_top1_error: Percent
    validation_top1_error: NotRequired[Percent]
    test_top1_error: NotRequired[Percent]


class EpochLine(CurvePoint):
    """An epoch's line, whole."""

    train_loss: Loss
    validation_loss: NotRequired[Loss]
    test_loss: NotRequired[Loss]
    seconds: Seconds


class _ResultFields(TypedDict):
    """The fields of an evaluation.json that `RunResult` is made of."""

    top1_error: Percent
    split: NotRequired[Literal["", "all", "training", "validation", "test"]]
    training_seconds: NotRequired[Seconds]


class _EvaluationFields(_ResultFields):
    """The fields of an evaluation.json that `RunEvaluation` is made of."""

    top5_error: Percent
    loss: Loss
    images: Annotated[int, Meta(ge=1, le=2**53)]
    confusion: list[list[Count]]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run, as far as tables show it.

    Attributes:
        top1_error: in percent.
        split: the images that it is an error on; None in an older version's file.
        training_seconds: time of the whole training; None where the file does not tell it.
    """

    top1_error: float
    split: str | None = None
    training_seconds: float | None = None

    @property
    def reported_split(self) -> str:
        """The images that it is an error on; older versions wrote errors on test images alone."""
        return "test" if self.split is None else self.split


@dataclass(frozen=True, kw_only=True)
class RunEvaluation(RunResult):
    """The evaluation of a run or a checkpoint.

    Attributes:
        top5_error: in percent.
        loss: mean cross-entropy in nats; None where it was not a number.
        images: how many were evaluated.
        confusion: confusion[i][j] images of class i were taken for class j.
    """

    top5_error: float
    loss: float | None
    images: int
    confusion: Sequence[Sequence[int]]


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
            if epoch is EpochLine and not _is_evaluated_whole_or_not(line):
                raise InputError(f"{what}: of what the evaluated images gave it has error or loss alone")
    return lines


def _is_evaluated_whole_or_not(line: Row) -> bool:
    """Whether an epoch's line has both quantities of the validation and of the test images, or neither."""
    return all(
        (f"{split}_top1_error" in line) == (f"{split}_loss" in line) for split in ("validation", "test")
    )


def has_result(folder: Path) -> bool:
    """Whether the run in a folder has come to its end, at which its evaluation.json is written."""
    return (folder / "evaluation.json").exists()


def read_result(path: Path) -> RunResult | None:
    """The result of a run, from its evaluation.json; None if there is no such file.

    Raises:
        InputError: it is broken, or no evaluation.
    """
    if not path.exists():
        return None
    fields: Row = read_json(path)
    read(_ResultFields, fields, _no_evaluation(path))
    return RunResult(
        top1_error=fields["top1_error"],
        split=fields.get("split"),
        training_seconds=fields.get("training_seconds"),
    )


def read_evaluation(path: Path, classes: Sequence[str]) -> RunEvaluation | None:
    """The evaluation of a run, from its evaluation.json; None if there is no such file.

    Args:
        path: the file.
        classes: of the network that was evaluated.

    Raises:
        InputError: it is broken, or no evaluation of these classes.
    """
    if not path.exists():
        return None
    fields: Row = read_json(path)
    confusion = read(_EvaluationFields, fields, _no_evaluation(path))["confusion"]
    if len(confusion) != len(classes) or any(len(row) != len(classes) for row in confusion):
        raise InputError(
            f"{_no_evaluation(path)}: $.confusion: {len(classes)} rows and columns are needed, one a class"
        )
    return RunEvaluation(
        top1_error=fields["top1_error"],
        split=fields.get("split"),
        training_seconds=fields.get("training_seconds"),
        top5_error=fields["top5_error"],
        loss=fields["loss"],
        images=fields["images"],
        confusion=fields["confusion"],
    )


def _no_evaluation(path: Path) -> str:
    return f"{path} is no evaluation of the run; make it again with: densenets train ... --resume"


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


def tells_top5(classes: int) -> bool:
    """Whether a top-5 error says anything: of five classes every one is among the likeliest five."""
    return classes > 5
