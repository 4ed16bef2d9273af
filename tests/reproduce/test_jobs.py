"""Real runs in child processes: what is done is skipped, what was cut goes on, what fails is marked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from digits_runs import digits_run

from densenets.errors import Interrupted
from densenets.files import read_json_lines
from densenets.reproduce import jobs as runner
from densenets.reproduce.jobs import do_runs
from densenets.reproduce.plan import PlannedRun
from densenets.reproduce.results import result_rows


def do(*runs: PlannedRun) -> None:
    do_runs(runs, {run.folder: 1.0 for run in runs})


@pytest.mark.slow
def test_what_fails_is_marked_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diverging = digits_run(tmp_path, seed=0, optimizer__learning_rate=1e30)
    good = digits_run(tmp_path, seed=1)
    do(diverging, good)
    assert (diverging.state, good.state) == ("failed", "done")
    assert diverging.failure.startswith("the loss is not a number any more (epoch 1, step ")
    told = capsys.readouterr().err
    assert "digits-seed0: failed: the loss is not a number" in told
    assert "digits-seed1: done" in told
    (row,) = result_rows([diverging, good], {})
    assert row.failed == {0: diverging.failure}
    evaluation = json.loads((good.folder / "evaluation.json").read_text())
    assert (row.errors, len(row.results)) == ([evaluation["top1_error"]], 1)
    assert row.deviation is None

    # What is done is not done again; what failed is tried once more.
    before = (good.folder / "evaluation.json").stat().st_mtime_ns
    mended = digits_run(tmp_path, seed=0, optimizer__learning_rate=1e30)
    do(mended, good)
    assert (good.folder / "evaluation.json").stat().st_mtime_ns == before
    assert mended.state == "failed"


@pytest.mark.slow
def test_ctrl_c_stops_the_run_with_its_state_and_the_next_start_goes_on(tmp_path: Path) -> None:
    run = digits_run(tmp_path, training__epochs=200)

    def stop() -> None:
        while len(read_json_lines(run.folder / "metrics.jsonl")) < 8:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=stop)
    watcher.start()
    with pytest.raises(Interrupted, match="stopped in digits-seed0; the same command goes on"):
        do(run)
    watcher.join()
    assert run.state == "cut"
    done = len(read_json_lines(run.folder / "metrics.jsonl"))
    assert done >= 8
    assert not run.failure_file.exists()
    # The child has stopped, too: its folder is free.
    shorter = subprocess.run([*run.command(), "--training.epochs", "201"], capture_output=True, text=True)
    assert "another recipe's run" in shorter.stderr


def test_a_killed_process_says_what_killed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho started; kill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    run = digits_run(tmp_path)
    do(run)
    assert run.failure == "killed by SIGKILL, as the system does when memory runs out"
    content = json.loads(run.failure_file.read_text())
    assert content["printed"] == ["started"]
    assert content["command"] == run.command()


def test_a_table_with_two_columns_is_evaluated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    # A program that notes its verb, and leaves what that verb leaves.
    program.write_text(
        f"#!/bin/sh\necho $3 >> {tmp_path}/verbs\n"
        "for last; do out=$previous; previous=$last; done\n"
        '[ "$3" = evaluate ] && out=$last; mkdir -p "$out"; echo "{{}}" > "$out/evaluation.json"\n'.replace(
            "{{}}", "{}"
        )
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    from densenets.reproduce.options import ReproduceOptions
    from densenets.reproduce.plan import planned_runs

    run = planned_runs(ReproduceOptions("table3", scale="paper", out=tmp_path))[0]
    do(run)
    assert (tmp_path / "verbs").read_text().split() == ["train", "evaluate"]
    assert run.state == "done"
    (run.ten_crop_folder / "evaluation.json").unlink()
    do(run)
    assert (tmp_path / "verbs").read_text().split() == ["train", "evaluate", "evaluate"]


def test_progress_is_read_from_the_metrics(tmp_path: Path) -> None:
    run = digits_run(tmp_path)
    assert runner._run_step(run) == 0
    run.folder.mkdir(parents=True)
    lines = '{"run_step": 3}\n{"run_step": 7}\n{"run_st'
    (run.folder / "metrics.jsonl").write_text(lines)
    assert runner._run_step(run) == 7
    many = "".join(f'{{"run_step": {step}, "loss": 1.23456789}}\n' for step in range(1000))
    (run.folder / "metrics.jsonl").write_text(many)
    assert runner._run_step(run) == 999
    (run.folder / "metrics.jsonl").write_text('{"run_s')
    assert runner._run_step(run) == 0
