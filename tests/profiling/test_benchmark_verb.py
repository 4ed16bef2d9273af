"""densenets benchmark: a table, JSON, and one line for each wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured_times import NO_PEAKS, no_step, times

from densenets.cli import main as cli
from densenets.profiling import runner
from densenets.profiling.worker_jobs import MachineJob, StepJob, StepMemory
from densenets.subprocess_jobs import JobFailure

SMALL = ("benchmark", "densenet-bc-10-4", "--batch", "2", "--input", "1x8x8", "--steps", "5", "--warmup", "0")


def test_a_table_and_a_file_with_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(job: StepJob | MachineJob, answer: type) -> object:
        if isinstance(job, MachineJob):
            return NO_PEAKS
        return StepMemory(in_use_bytes=2**19) if job.quantity == "memory" else times(0.5, peak_bytes=2**20)

    monkeypatch.setattr(runner, "_measure", measure)
    out = tmp_path / "benchmark.json"
    assert cli.run((*SMALL, "--variants", "reference", "recompute", "--out", str(out))) == 0
    printed = capsys.readouterr().out
    assert "training steps of densenet-bc-10-4, batch 2 of 1x8x8" in printed
    assert {("reference", "500.0"), ("recompute", "1.00")} <= {
        tuple(line.split()[:2]) for line in printed.splitlines()
    }
    rows = json.loads(out.read_text())["cases"]["densenet-bc-10-4"]["rows"]
    assert [row["variant"] for row in rows] == ["reference", "recompute"]
    assert rows[0]["in_use_bytes"] == 2**19


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StepJob | MachineJob]:
    """Jobs that processes would have been given; all of them fail."""
    jobs: list[StepJob | MachineJob] = []

    def measure(job: StepJob | MachineJob, answer: type) -> JobFailure:
        jobs.append(job)
        return no_step("no such luck")

    monkeypatch.setattr(runner, "_measure", measure)
    return jobs


def test_nothing_but_failures_is_an_error(
    capsys: pytest.CaptureFixture[str], asked: list[StepJob | MachineJob]
) -> None:
    assert cli.run((*SMALL, "--json", "--variants", "torchvision")) == 2
    captured = capsys.readouterr()
    (case,) = json.loads(captured.out)["cases"].values()
    assert case["rows"][0]["failed"] == "no such luck"
    assert captured.err == "densenets: every variant failed; torchvision: no such luck\n"


@pytest.mark.parametrize(("model", "sides"), [("densenet121", [224, 224]), ("densenet-40-12", [32, 32])])
def test_the_input_is_the_networks_own_unless_given(
    model: str, sides: list[int], asked: list[StepJob | MachineJob]
) -> None:
    cli.run(("benchmark", model))
    steps = [job.step for job in asked if isinstance(job, StepJob)]
    assert list(steps[0].sides) == sides
    assert any(step.implementation == "torchvision" for step in steps) == (model == "densenet121")
    ours = {(step.execution, step.precision) for step in steps if step.implementation == "densenets"}
    assert ours >= {("reference", "float32"), ("recompute", "float32"), ("reference", "bfloat16")}


WRONG = {
    "benchmark": "missing: ",
    "benchmark densenet12": "unknown model 'densenet12'; did you mean densenet121",
    "benchmark densenet121 --input 3x28x28": "input 3x28x28 is too small",
    "benchmark densenet121 --input 224": "--input 224 is no shape",
    "benchmark densenet121 --steps 3": "steps must be at least 5, got 3",
    "benchmark densenet121 --variants fast": "unknown variant 'fast'",
    "benchmark densenet-40-12 --variants torchvision": "torchvision's DenseNet always has a bottleneck",
    "benchmark densenet121 --variants reference --compile": "leave --compile and --precision out",
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.items(), ids=WRONG.keys())
def test_wrong_input_gets_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], asked: list[StepJob | MachineJob]
) -> None:
    assert cli.run(arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert message in line
    assert asked == []
