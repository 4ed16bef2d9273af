"""What is read of a run's folder; what reading mutated ones does is in test_fuzz."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile_files import KINDS

from densenets.analysis.run_facts import read_run
from densenets.errors import InputError
from densenets.profiling.measured_step import MeasuredStep
from densenets.records import RunResult, read_evaluation, read_metrics, read_result, read_starts


@pytest.fixture
def run(tmp_path: Path) -> Path:
    KINDS["run"].make(tmp_path / "run", 0)
    return tmp_path / "run"


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def test_a_whole_run_is_read(run: Path) -> None:
    found = read_run(run)
    assert found.evaluation is not None
    assert found.evaluation.top1_error == 10.0
    assert found.evaluation.training_seconds == 6.0
    assert [line["kind"] for line in read_metrics(run / "metrics.jsonl")] == ["step", "epoch"] * 2
    assert [epoch.epoch for epoch in found.epochs] == [1, 2]
    assert found.starts[0]["device"] == "a CPU"
    cost = found.cost("auto", measure=False, announce=lambda _: None)
    assert isinstance(cost, MeasuredStep)
    assert cost.batch == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top1_error": 101}, r"\$.top1_error: expected float <= 100"),
        ({"top1_error": "10"}, r"\$.top1_error: expected float, got str"),
        ({"images": 0}, r"\$.images: expected int >= 1"),
        ({"confusion": [[1]]}, r"\$.confusion: 10 rows and columns"),
        ({"confusion": [[-1] * 10] * 10}, r"\$.confusion\[0\]\[0\]: expected int >= 0"),
        ({"training_seconds": 1e300}, r"\$.training_seconds: expected float <="),
        ({"loss": []}, r"\$.loss: expected float . null, got array"),
    ],
)
def test_an_evaluation_that_is_none_is_refused(run: Path, fields: dict[str, Any], message: str) -> None:
    change(run / "evaluation.json", **fields)
    with pytest.raises(InputError, match=f"evaluation.json is no evaluation of the run; .*{message}"):
        read_run(run)


def test_fields_that_nobody_reads_are_no_fault(run: Path) -> None:
    before = read_run(run).evaluation
    assert json.loads((run / "evaluation.json").read_text())["per_class"]
    change(run / "evaluation.json", per_class="something else", more=[1])
    assert read_run(run).evaluation == before


def test_an_older_versions_result_is_one_on_test_images(run: Path) -> None:
    (run / "evaluation.json").write_text('{"top1_error": 12.5}')
    result = read_result(run / "evaluation.json")
    assert result == RunResult(top1_error=12.5, split=None, training_seconds=None)
    assert result.reported_split == "test"


def test_a_loss_that_was_not_a_number_is_no_fault(run: Path) -> None:
    change(run / "evaluation.json", loss=None)
    assert read_run(run).evaluation


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {}, "more": 1}, r"\$.more is unknown"),
        ({"model": {"name": "densenet-bc-41-12"}}, "depth must be .*, got 41"),
        ({"model": {"name": "densenet-bc-" + "9" * 5000 + "-12"}}, "unknown model"),
        ({"training": {"epochs": True}}, r"\$.training.epochs: expected int, got bool"),
        ({"schedule": {"milestones": "0.5"}}, r"\$.schedule.milestones: expected array, got str"),
        ({"data": {}}, r"\$.data: object missing required field name"),
        ({"optimizer": {"name": "lamb"}}, r"\$.optimizer.name: invalid enum value 'lamb'"),
    ],
)
def test_a_recipe_that_is_none_is_refused(run: Path, fields: dict[str, Any], message: str) -> None:
    fields = {"training": {"report": "last"}, **fields}
    fields["training"] = {"report": "last", **fields["training"]}
    change(run / "recipe.json", **fields)
    with pytest.raises(InputError, match=rf"recipe\.json is no recipe of this version .*{message}"):
        read_run(run)


def test_lines_and_starts_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    epoch = {"kind": "epoch", "run_step": 1, "epoch": 1, "train_top1_error": 9, "train_loss": 1, "seconds": 1}
    halves = ({**epoch, "test_loss": 1}, {**epoch, "validation_top1_error": 9})
    for line in ({}, {"kind": "epoch", "run_step": 1}, {"kind": "step", "run_step": -1}, *halves):
        path.write_text(json.dumps(line) + "\n")
        with pytest.raises(InputError, match=r"line 1 of .* is none of a run's metrics"):
            read_metrics(path)
    for starts in ({}, [3], [{"command": "densenets"}], [{}]):
        path.write_text(json.dumps(starts))
        with pytest.raises(InputError, match="is no list of a run's starts"):
            read_starts(path)
    path.write_text(json.dumps(epoch) + "\n")
    assert read_metrics(path) == [epoch]  # not evaluated
    assert read_metrics(tmp_path / "gone") == []
    assert read_starts(tmp_path / "gone") == []
    assert read_result(tmp_path / "gone") is None
    assert read_evaluation(tmp_path / "gone", ("a", "b")) is None


def test_a_step_that_cannot_be_computed_with_is_refused() -> None:
    seconds = {"forward_seconds": 0.1, "backward_seconds": 0.2, "optimizer_seconds": 0.0}
    step = {**seconds, "batch": 64, "ran": "reference", "device": "a CPU", "torch": "2"}
    assert MeasuredStep.from_dict(step).batch == 64
    for fields in ({"forward_seconds": 0}, {"batch": 0}, {"batch": "64"}, {"memory_bytes": "9"}, {"ran": 3}):
        with pytest.raises(InputError, match="is no measured step"):
            MeasuredStep.from_dict(step | fields)
    for value in ([step], {**step, "device": None}, {**step, "in_use_bytes": -1}, None):
        with pytest.raises(InputError, match="is no measured step"):
            MeasuredStep.from_dict(value)
