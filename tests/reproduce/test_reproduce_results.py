"""What the runs' files say, as rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from measured_times import given_step, no_step

from densenets.profiling.measured_step import MeasuredStep
from densenets.reproduce.options import ReproduceOptions
from densenets.reproduce.plan import PlannedRun, planned_runs
from densenets.reproduce.results import result_rows


def finish(run: PlannedRun, error: float, *, seconds: float = 60.0) -> None:
    """Leave the files that a finished run leaves."""
    run.folder.mkdir(parents=True)
    content = {"top1_error": error, "training_seconds": seconds}
    (run.folder / "evaluation.json").write_text(json.dumps(content))
    epochs = [
        {
            "kind": "epoch",
            "epoch": n,
            "run_step": n,
            "train_top1_error": 90.0 / n,
            "validation_top1_error": error,
        }
        for n in (1, 2)
    ]
    lines = [{"kind": "step", "run_step": 1}, *epochs]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def cost(**changes: Any) -> MeasuredStep:
    seconds = {"forward_seconds": 0.064, "backward_seconds": 0.128, "optimizer_seconds": 0.064}
    return given_step(**{**seconds, "memory_bytes": 300, "in_use_bytes": 200, **changes})


def test_seeds_have_a_mean_and_a_spread(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("fig4", seeds=3, out=tmp_path))
    same = [run for run in runs if run.entry.network == "plain-20"]
    for run, error in zip(same, (30.0, 32.0, 37.0), strict=True):
        finish(run, error, seconds=10 * error)
    rows = result_rows(runs, {same[0].entry.base: cost()})
    row = next(row for row in rows if row.network == "plain-20")
    assert row.errors == [30.0, 32.0, 37.0]
    assert row.mean_error == pytest.approx(33.0)
    assert row.deviation == pytest.approx(13**0.5)
    assert (len(row.results), row.failed) == (3, {})
    assert row.training_seconds == pytest.approx(330)
    # Milliseconds an image.
    assert (row.step.forward_ms, row.step.backward_ms, row.step.step_ms) == pytest.approx((1.0, 2.0, 4.0))
    assert row.step.memory_bytes == 200
    assert [point.evaluation_error for point in row.curves] == [pytest.approx(33.0)] * 2
    assert [point.train_error for point in row.curves] == [90.0, 45.0]
    other = next(row for row in rows if row.network == "densenet-bc-52-12")
    assert (other.errors, other.mean_error, other.step.forward_ms) == ([], None, None)
    written = [row.to_dict() for row in rows]
    assert json.loads(json.dumps(written)) == written
    (plain,) = (fields for fields in written if fields["network"] == "plain-20")
    assert (plain["errors"], plain["seeds"], plain["forward_ms"]) == (
        [30.0, 32.0, 37.0],
        3,
        pytest.approx(1.0),
    )


def test_resident_memory_stands_in_where_nothing_tells_what_is_in_use(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("fig4", seeds=1, out=tmp_path))
    base = runs[0].entry.base
    assert result_rows(runs, {base: cost(in_use_bytes=None)})[0].step.memory_bytes == 300
    failed = result_rows(runs, {base: no_step("killed by SIGKILL")})[0]
    assert (failed.step.failed, failed.step.memory_bytes) == ("killed by SIGKILL", None)


def test_the_papers_figures_and_ours_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("table3", scale="paper", seeds=1, out=tmp_path))
    finish(runs[0], 26.0)
    runs[0].ten_crop_folder.mkdir()
    (runs[0].ten_crop_folder / "evaluation.json").write_text(json.dumps({"top1_error": 24.5}))
    single, ten, *_ = result_rows(runs, {})
    assert (single.column, single.paper_error, single.errors) == ("imagenet", 25.02, [26.0])
    assert (ten.column, ten.paper_error, ten.errors) == ("imagenet 10-crop", 23.61, [24.5])
    assert ten.training_seconds is None
