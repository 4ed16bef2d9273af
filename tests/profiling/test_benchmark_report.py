"""Medians, shares and ratios from fixed rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from measured_times import NO_PEAKS, no_step

from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.benchmark_report import (
    BenchmarkCase,
    BenchmarkReport,
    FailedVariant,
    MeasuredVariant,
    Ratios,
    Timing,
    line_residual,
    ratios,
    step_flops,
    timing,
)
from densenets.profiling.variants import named_variant


def row(variant: str, median: float, peak: int, in_use: int | None) -> MeasuredVariant:
    return MeasuredVariant(
        variant=named_variant(variant),
        seconds=(median,),
        warmup_seconds=(),
        peak_bytes=peak,
        memory_measured_by="VmHWM",
        loss=None,
        kept_freed_memory=False,
        in_use_bytes=in_use,
        timing=timing([median], flops=1, peak=None),
    )


FAILED = FailedVariant(variant=named_variant("torchvision-compile"), failure=no_step("no compiler"))


def case(*rows: MeasuredVariant | FailedVariant) -> BenchmarkCase:
    names = tuple(row.variant.name for row in rows)
    config = BenchmarkConfig(model="densenet121", batch=2, input="3x64x64", variants=names)
    return BenchmarkCase(config=config, step_flops=1, notes=(), rows=rows)


def compared(*rows: MeasuredVariant) -> list[Ratios]:
    return [ratios(row, rows) for row in rows]


def test_ratios_are_to_the_fastest_and_to_the_leanest_of_torchvision() -> None:
    whole = case(
        row("torchvision", 4.0, 1000, 800),
        row("torchvision-channels-last", 3.0, 1100, 900),
        row("torchvision-memory-efficient", 5.0, 500, 400),
        row("torchvision-bf16", 1.0, 10, 10),
        FAILED,
        row("reference", 1.5, 550, 450),
    )
    rows = whole.to_dict()["rows"]
    ours = rows[-1]
    assert (ours["fastest"], ours["times_faster"]) == ("torchvision-channels-last", 2.0)
    assert (ours["leanest_peak"], ours["leanest_in_use"]) == ("torchvision-memory-efficient",) * 2
    assert (ours["peak_of_fastest"], ours["peak_of_leanest"]) == (0.5, 1.1)
    assert (ours["in_use_of_fastest"], ours["in_use_of_leanest"]) == (0.5, 1.125)
    assert rows[1]["times_faster"] == 1.0
    assert rows[3]["times_faster"] == 1.0  # bfloat16 is compared with bfloat16
    assert rows[4] == FAILED.to_dict() == {
        "variant": "torchvision-compile",
        "base": "torchvision-compile",
        "precision": "float32",
        "failed": "no compiler",
        "stderr": "",
    }  # fmt: skip


def test_without_torchvision_ratios_are_to_our_reference() -> None:
    _, ours = compared(row("reference", 4.0, 100, None), row("recompute", 5.0, 50, 40))
    assert (ours.fastest, ours.times_faster) == ("reference", 0.8)
    assert (ours.peak_of_leanest, ours.in_use_of_leanest) == (0.5, None)


def test_without_either_there_are_no_ratios() -> None:
    (only,) = compared(row("recompute", 5.0, 50, 40))
    assert set(dataclasses.asdict(only).values()) == {None}


def test_memory_is_compared_without_times() -> None:
    rows = [row("reference", 1.0, 100, 80), row("recompute", 1.0, 50, 40)]
    _, ours = compared(*(dataclasses.replace(measured, timing=None) for measured in rows))
    assert ours.in_use_of_leanest == 0.5
    assert ours.times_faster is None


def test_figures_of_time() -> None:
    figures = timing([0.5, 0.2, 0.1, 0.3, 0.2], flops=4 * 10**9, peak=80.0)
    assert figures == Timing(
        median_seconds=0.2, min_seconds=0.1, max_seconds=0.5, gigaflops=20.0, share_of_peak=0.25
    )
    assert timing([0.2], flops=1, peak=None).share_of_peak is None


def test_flops_of_a_step() -> None:
    def flops(mode: Any) -> int:
        variants = ("reference",)
        return step_flops(BenchmarkConfig(model="densenet121", batch=2, mode=mode, variants=variants))

    # 2.85 G multiply-adds of an image.
    assert flops("inference") == pytest.approx(2 * 2 * 2.85e9, rel=0.01)
    assert flops("train") == 3 * flops("inference")


def test_all_failed_names_the_first() -> None:
    failed, measured = case(FAILED), case(FAILED, row("reference", 1.0, 1, 1))
    report = BenchmarkReport(environment={}, machine=NO_PEAKS, cases={"a": failed})
    assert report.failure == "every variant failed; torchvision-compile: no compiler"
    assert dataclasses.replace(report, cases={"a": failed, "b": measured}).failure == ""


def test_the_residual_of_a_straight_line() -> None:
    assert line_residual([1, 2, 3], [10, 20, 30]) == pytest.approx(0)
    # The best line is 1 + x; the distances are 1/3, 2/3 and 1/3.
    assert line_residual([0, 1, 2], [4 / 3, 4 / 3, 10 / 3]) == pytest.approx(0.5)
