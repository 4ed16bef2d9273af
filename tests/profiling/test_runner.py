"""Real processes: what one reports, and what becomes of one that fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from measured_times import NO_PEAKS, times

from densenets.errors import InputError
from densenets.profiling import runner
from densenets.profiling.benchmark_config import BenchmarkConfig, MemoryBenchmarkConfig
from densenets.profiling.benchmark_report import BenchmarkReport
from densenets.profiling.runner import run_benchmarks
from densenets.profiling.table import print_benchmark
from densenets.profiling.worker_jobs import MachineJob, StepJob, StepMemory
from densenets.subprocess_jobs import JobFailure


def config(**changes: Any) -> BenchmarkConfig:
    fields: dict[str, Any] = {"model": "densenet-bc-40-12", "batch": 2, "input": "3x8x8", "steps": 5}
    return BenchmarkConfig(**{**fields, "variants": ("reference",), "threads": 1, "warmup": 1, **changes})


@pytest.fixture(scope="module")
def benchmark() -> BenchmarkReport:
    cases = {
        "training": config(variants=("torchvision", "reference")),
        "inference": config(variants=("reference-bf16",), mode="inference", keep_freed_memory=True),
        # Batch normalisation refuses to train on a single value a channel, where the last block has a pixel.
        "one pixel": config(batch=1, input="3x4x4"),
    }
    return run_benchmarks(cases)


@pytest.fixture(scope="module")
def report(benchmark: BenchmarkReport) -> dict[str, Any]:
    return benchmark.to_dict()


@pytest.mark.slow
def test_a_report_is_json_with_its_surroundings(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report
    assert {"date", "command", "device", "torch", "torchvision", "densenets"} <= set(report)
    assert report["threads"] == 1
    assert set(report["peaks"]) == {"float32", "bfloat16"}
    for peak in report["peaks"].values():
        assert peak["gigaflops"] > 0
        assert peak["measured_by"] in ("FMA", "AMX", "matrix product")


@pytest.mark.slow
def test_every_variant_is_measured_on_the_same_weights(report: dict[str, Any]) -> None:
    theirs, ours = report["cases"]["training"]["rows"]
    for row in (theirs, ours):
        assert len(row["seconds"]) == 5
        assert len(row["warmup_seconds"]) == 1
        assert row["min_seconds"] <= row["median_seconds"] <= row["max_seconds"]
        assert 0 < row["share_of_peak"] < 1
        # 176,122 parameters and their gradients, and what else a small step needs.
        assert 2 * 4 * 176_122 < row["peak_bytes"] < 2**27
        assert not row["kept_freed_memory"]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    assert (theirs["fastest"], theirs["times_faster"]) == ("torchvision", 1.0)
    assert ours["times_faster"] == theirs["median_seconds"] / ours["median_seconds"]


def test_rounds_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def measure(job: StepJob | MachineJob, answer: type) -> object:
        if isinstance(job, MachineJob):
            return NO_PEAKS
        of_torchvision = job.step.implementation == "torchvision"
        order.append(("torchvision" if of_torchvision else job.step.execution, job.quantity == "memory"))
        if job.quantity == "memory":
            return StepMemory(in_use_bytes=None)
        return times(*[float(len(order))] * 5, warmup=(9.0,), peak_bytes=len(order))

    monkeypatch.setattr(runner, "_measure", measure)
    case = config(variants=("torchvision", "reference"), rounds=2)
    theirs, ours = runner.run_benchmarks({"case": case}).to_dict()["cases"]["case"]["rows"]
    names = ["torchvision", "reference"]
    assert order == [(name, in_use) for in_use in (False, False, True) for name in names]
    assert theirs["seconds"] == [1.0] * 5 + [3.0] * 5
    assert (theirs["median_seconds"], ours["median_seconds"]) == (2.0, 3.0)
    assert (theirs["peak_bytes"], ours["peak_bytes"]) == (3, 4)


@pytest.mark.slow
def test_inference_in_bfloat16(report: dict[str, Any]) -> None:
    case = report["cases"]["inference"]
    (row,) = case["rows"]
    assert (row["precision"], case["mode"]) == ("bfloat16", "inference")
    assert row["kept_freed_memory"] == sys.platform.startswith("linux")
    assert 3 * case["step_flops"] == report["cases"]["training"]["step_flops"]


@pytest.mark.slow
def test_a_process_that_fails_is_a_row(
    benchmark: BenchmarkReport, report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = report["cases"]["one pixel"]["rows"]
    assert row["failed"].startswith("ValueError: Expected more than 1 value per channel")
    assert row["stderr"].endswith(row["failed"])
    print_benchmark(benchmark)
    printed = capsys.readouterr().out
    assert "reference failed: ValueError: Expected more than 1 value" in printed
    assert "fastest is torchvision, leanest is" in printed


SCRIPTS = {
    "kill -9 $$": "killed by SIGKILL, as the system does when memory runs out",
    "kill -11 $$": "killed by SIGSEGV",
    "exit 3": "exit code 3",
    "echo 'some.Error: no [more] memory' >&2; echo '  a hint' >&2; exit 1": "some.Error: no [more] memory",
    "echo 'out of luck' >&2; exit 1": "out of luck",
    "echo 'densenets: no such file' >&2; echo 'torch.ChildFailedError:' >&2; exit 1": "no such file",
    "echo no JSON": "the process gave no result",
    "exit 0": "the process gave no result",
}


@pytest.mark.parametrize(("script", "reason"), SCRIPTS.items(), ids=SCRIPTS.keys())
def test_why_a_process_failed_is_one_line(
    script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    report = run_benchmarks({"all": config(input="3x8x8x8")}).to_dict()
    (row,) = report["cases"]["all"]["rows"]
    assert row["failed"] == reason
    assert report["failed"] == reason
    assert report["peaks"] == {}
    assert report["cases"]["all"]["notes"] == [
        "torchvision's DenseNet has 2 spatial dimensions, not 3: compared with our reference"
    ]


def test_an_answer_of_another_form_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '{}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(InputError, match=r"the answer of densenets\.profiling\.worker: .* missing"):
        run_benchmarks({"all": config()})


def test_time_stands_without_the_memory_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(job: StepJob | MachineJob, answer: type) -> object:
        if isinstance(job, MachineJob):
            return NO_PEAKS
        if job.quantity == "memory":
            return JobFailure(reason="killed", stderr="a trace")
        return times(1.0, 2.0, 3.0)

    monkeypatch.setattr(runner, "_measure", measure)
    report = run_benchmarks({"all": config()}).to_dict()
    (row,) = report["cases"]["all"]["rows"]
    assert (row["median_seconds"], row["in_use_bytes"]) == (2.0, None)
    assert row["in_use_failed"] == {"failed": "killed", "stderr": "a trace"}


def test_only_memory_has_no_times(monkeypatch: pytest.MonkeyPatch) -> None:

    def measure(job: StepJob | MachineJob, answer: type) -> object:
        if isinstance(job, MachineJob):
            return NO_PEAKS
        return StepMemory(in_use_bytes=5) if job.quantity == "memory" else times(1.0)

    monkeypatch.setattr(runner, "_measure", measure)
    report = run_benchmarks(
        {"all": MemoryBenchmarkConfig(model="densenet-bc-40-12", variants=("reference",))}
    ).to_dict()
    (row,) = report["cases"]["all"]["rows"]
    assert "median_seconds" not in row
    assert row["in_use_of_leanest"] == 1.0
