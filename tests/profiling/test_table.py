"""The tables of a benchmark."""

from __future__ import annotations

import dataclasses

import pytest
from measured_times import no_step

from densenets.profiling.benchmark_config import BenchmarkConfig, MemoryBenchmarkConfig
from densenets.profiling.benchmark_report import (
    BenchmarkCase,
    BenchmarkReport,
    DepthLine,
    FailedVariant,
    MeasuredVariant,
    Timing,
)
from densenets.profiling.table import print_benchmark, print_depths
from densenets.profiling.variants import named_variant
from densenets.profiling.worker_jobs import MachinePeaks, Peak

TIMING = Timing(median_seconds=1.2345, min_seconds=1.2, max_seconds=1.3, gigaflops=50.0, share_of_peak=0.255)
ROW = MeasuredVariant(
    variant=named_variant("recompute-bf16"),
    seconds=(1.2345,),
    warmup_seconds=(),
    peak_bytes=3 * 2**20,
    memory_measured_by="VmHWM",
    loss=1.0,
    kept_freed_memory=False,
    in_use_bytes=None,
    timing=TIMING,
)
FASTEST = dataclasses.replace(
    ROW,
    variant=named_variant("torchvision-bf16"),
    peak_bytes=6 * 2**20,
    timing=dataclasses.replace(TIMING, median_seconds=1.5 * 1.2345),
)
LEANEST = dataclasses.replace(
    FASTEST,
    variant=named_variant("torchvision-memory-efficient-bf16"),
    peak_bytes=int(2.4 * 2**20),
    timing=dataclasses.replace(TIMING, median_seconds=3.0),
)


def report(
    *rows: MeasuredVariant | FailedVariant,
    notes: tuple[str, ...] = (),
    kind: type[BenchmarkConfig] = BenchmarkConfig,
) -> BenchmarkReport:
    names = tuple(row.variant.name for row in rows)
    config = kind(model="densenet121", batch=2, input="3x64x64", variants=names)
    peaks = MachinePeaks(
        device="CPU", threads=1, peaks={"bfloat16": Peak(gigaflops=196.0, measured_by="FMA")}
    )
    case = BenchmarkCase(config=config, step_flops=1, notes=notes, rows=rows)
    environment = {"device": "CPU", "torch": "2"}
    return BenchmarkReport(environment=environment, machine=peaks, cases={"small": case})


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # rich takes these for a terminal, with a terminal's width and colours.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_time_and_memory_of_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(report(FASTEST, LEANEST, ROW))
    printed = capsys.readouterr().out
    assert "small: training steps of densenet121, batch 2 of 3x64x64" in printed
    time = ["1,234.5", "1,200.0", "...", "1,300.0", "50.0", "25.5%", "1.50x"]
    assert ["recompute-bf16", *time] in lines(printed)
    assert ["recompute-bf16", "3.00", "MiB", "0.50x", "1.25x", "-", "-", "-"] in lines(printed)
    assert (
        "bfloat16: fastest is torchvision-bf16, leanest is torchvision-memory-efficient-bf16 (resident)"
        in printed
    )
    assert "bfloat16 196 GFLOP/s (FMA)" in printed


def test_failures_are_told_under_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "RuntimeError: [enforce fail] memory"
    failed = FailedVariant(variant=named_variant("reference"), failure=no_step(reason))
    second = dataclasses.replace(ROW, in_use_failure=no_step("killed by SIGKILL"))
    print_benchmark(report(failed, second), stderr=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ["reference", "failed"] in lines(captured.err)
    assert "reference failed: RuntimeError: [enforce fail] memory" in captured.err
    assert "recompute-bf16, memory in use, failed: killed by SIGKILL" in captured.err


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    timing = dataclasses.replace(TIMING, share_of_peak=None)
    row = dataclasses.replace(ROW, timing=timing, memory_measured_by="ru_maxrss")
    print_benchmark(dataclasses.replace(report(row, notes=("a note",)), machine=no_step("no luck")))
    printed = capsys.readouterr().out
    for text in ("a note", "fastest is -", "cannot reset the high-water mark", "unknown, failed: no luck"):
        assert text in printed


def test_memory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(report(dataclasses.replace(ROW, timing=None), kind=MemoryBenchmarkConfig))
    assert "median" not in capsys.readouterr().out


def test_memory_against_depth(capsys: pytest.CaptureFixture[str]) -> None:
    in_use: dict[int, int | None] = {40: 2**20, 70: None}
    print_depths(
        [DepthLine(variant="reference", in_use_bytes=in_use, residual=0.034, activations_residual=0.012)]
    )
    printed = lines(capsys.readouterr().out)
    assert ["40", "1.00", "MiB"] in printed
    assert ["70", "-"] in printed
    assert printed[-2] == ["off", "a", "line", "by", "3.4%"]
    assert printed[-1] == ["without", "weights", "and", "gradients", "1.2%"]
