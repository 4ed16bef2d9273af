"""The tables of a benchmark."""

from __future__ import annotations

from typing import Any

import pytest

from densenets.profiling.table import print_benchmark, print_depths

ROW = {
    "variant": "recompute-bf16",
    "precision": "bfloat16",
    "median_seconds": 1.2345,
    "min_seconds": 1.2,
    "max_seconds": 1.3,
    "gigaflops": 50.0,
    "share_of_peak": 0.255,
    "peak_bytes": 3 * 2**20,
    "in_use_bytes": None,
    "memory_measured_by": "VmHWM",
    "fastest": "torchvision-bf16",
    "times_faster": 1.5,
    "leanest_peak": "torchvision-memory-efficient-bf16",
    "peak_of_fastest": 0.5,
    "peak_of_leanest": 1.25,
    "leanest_in_use": None,
    "in_use_of_fastest": None,
    "in_use_of_leanest": None,
}


def report(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    case = {"model": "densenet121", "batch": 2, "in_channels": 3, "sides": [64, 64], "mode": "train"}
    case |= {"only_memory": False, "notes": [], "rows": list(rows)}
    peaks = {"bfloat16": {"gigaflops": 196.0, "measured_by": "FMA"}}
    return {"device": "CPU", "torch": "2", "peaks": peaks, "cases": {"small": case | changes}}


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # rich takes these for a terminal, with a terminal's width and colours.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_time_and_memory_of_a_variant(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(report(ROW))
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
    failed = {"variant": "reference", "precision": "float32", "failed": "RuntimeError: [enforce fail] memory"}
    second = ROW | {"in_use_failed": {"failed": "killed by SIGKILL"}}
    print_benchmark(report(failed, second), stderr=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ["reference", "failed"] in lines(captured.err)
    assert "reference failed: RuntimeError: [enforce fail] memory" in captured.err
    assert "recompute-bf16, memory in use, failed: killed by SIGKILL" in captured.err


def test_what_is_not_known_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = ROW | {"share_of_peak": None, "fastest": None, "memory_measured_by": "ru_maxrss"}
    print_benchmark(report(row, notes=["a note"]) | {"failed": "no luck", "peaks": {}})
    printed = capsys.readouterr().out
    for text in ("a note", "fastest is -", "cannot reset the high-water mark", "unknown, failed: no luck"):
        assert text in printed


def test_memory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    times = ("median_seconds", "min_seconds", "max_seconds", "gigaflops", "share_of_peak")
    row = {key: value for key, value in ROW.items() if key not in times}
    print_benchmark(report(row, only_memory=True))
    assert "median" not in capsys.readouterr().out


def test_memory_against_depth(capsys: pytest.CaptureFixture[str]) -> None:
    in_use = {40: 2**20, 70: None}
    print_depths(
        [{"variant": "reference", "in_use_bytes": in_use, "residual": 0.034, "activations_residual": 0.012}]
    )
    printed = lines(capsys.readouterr().out)
    assert ["40", "1.00", "MiB"] in printed
    assert ["70", "-"] in printed
    assert printed[-2] == ["off", "a", "line", "by", "3.4%"]
    assert printed[-1] == ["without", "weights", "and", "gradients", "1.2%"]
