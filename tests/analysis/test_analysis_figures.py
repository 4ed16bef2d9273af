"""The figures of analyses: what is drawn is what was measured, and the tables say it too."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from small_networks import small_config

from densenets.analysis.cost.compute import CostRow, StepCosts
from densenets.analysis.cost.figure import cost_figure, write_cost
from densenets.analysis.cost.table import print_cost
from densenets.analysis.efficiency.compute import EfficiencyRow
from densenets.analysis.efficiency.table import print_efficiency
from densenets.analysis.memory.compute import BatchMemory, Growth, ImageMemory, LargestBatch, MemoryGrowth
from densenets.analysis.memory.figure import memory_figure, write_memory
from densenets.analysis.memory.table import print_memory
from densenets.analysis.reuse.compute import feature_reuse
from densenets.analysis.reuse.figure import reuse_figure, write_reuse
from densenets.analysis.reuse.table import print_reuse
from densenets.analysis.saliency.compute import ImageSaliency, SaliencyMap
from densenets.analysis.saliency.table import print_saliency
from densenets.models.densenet import DenseNet
from densenets.ops.execution import Execution
from densenets.profiling.measured_step import StepFigures
from densenets.records import RunResult

MIB = 2**20
TOO_FEW = "two measured batches are needed"


def growth(**changes: Any) -> MemoryGrowth:
    def by_depth(execution: Execution, layers: int, image: int | None) -> ImageMemory:
        return ImageMemory(
            execution=execution,
            depth=2 * layers + 4,
            layers=layers,
            image_bytes=image,
            predicted_image_bytes=layers * MIB,
        )

    def by_batch(execution: Execution, batch: int, measured: int | None) -> BatchMemory:
        return BatchMemory(
            execution=execution,
            depth=40,
            layers=18,
            batch=batch,
            predicted_bytes=20 * batch * MIB,
            measured_bytes=measured,
            failed="no luck" if measured is None else "",
        )

    fields: dict[str, Any] = {
        "model": "some$net",
        "batch": 8,
        "sides": (32, 32),
        "by_depth": (
            by_depth("reference", 9, 9 * MIB),
            by_depth("reference", 18, 36 * MIB),
            by_depth("fused", 9, 3 * MIB),
            by_depth("fused", 18, None),
        ),
        "by_batch": (
            by_batch("reference", 4, 100 * MIB),
            by_batch("reference", 8, 200 * MIB),
            by_batch("fused", 4, 50 * MIB),
            by_batch("fused", 8, None),
        ),
        "growth": (
            Growth(execution="reference", exponent=2.0, of_prediction=2.0),
            Growth(execution="fused", exponent=None, of_prediction=None),
        ),
        "largest": (
            LargestBatch(execution="reference", batch=12, bytes=300 * MIB, known_by="measured"),
            LargestBatch(execution="fused", batch=None, bytes=None, known_by=TOO_FEW),
        ),
        "failures": ("fused, depth 40, batch 8 failed: no luck",),
        "memory": 310 * MIB,
    }
    return MemoryGrowth(**{**fields, **changes})


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_memory_is_drawn_in_mib_over_layers_and_batch() -> None:
    by_depth, by_batch = memory_figure(growth()).axes
    assert ([9, 18], [9.0, 36.0]) in lines(by_depth)  # reference, measured
    assert ([9, 18], [9.0, 18.0]) in lines(by_depth)  # predicted
    assert ([9], [3.0]) in lines(by_depth)  # fused, of which one failed
    assert ([4, 8], [100.0, 200.0]) in lines(by_batch)
    # The memory that was asked for, and the batch that fits in it.
    assert ([12], [310.0]) in lines(by_batch)
    assert by_batch.get_ylim()[1] > 310


def test_memory_is_told_with_its_failures(capsys: pytest.CaptureFixture[str]) -> None:
    print_memory(growth())
    text = capsys.readouterr().out
    assert "9.00 MiB (9.00 MiB)" in text
    assert "layers^2" in text
    assert "fused, depth 40, batch 8 failed: no luck" in text
    assert "reference: the largest batch in 310.00 MiB is 12 (measured, 300.00 MiB)" in text
    assert "fused: the largest batch in 310.00 MiB is - (two measured batches are needed, -)" in text


COSTS = [
    CostRow(
        model="densenet-bc-22-12",
        execution="reference",
        depth=22,
        parameters=1_000_000,
        multiply_adds=60_000_000,
        batch=8,
        forward_ms=20.0,
        backward_ms=30.0,
        optimizer_ms=2.0,
        step_ms=52.0,
        forward_gigaflops=6.0,
        backward_gigaflops=8.0,
        memory_bytes=80 * MIB,
        ran="reference",
    ),
    CostRow(
        model="resnet20",
        execution="reference",
        depth=20,
        parameters=500_000,
        multiply_adds=40_000_000,
        batch=8,
        failed="no [red]luck",
    ),
]


def test_a_bar_is_as_long_as_its_phases() -> None:
    phases, arithmetic, memory = cost_figure(COSTS).axes
    widths = [[bar.get_width() for bar in container] for container in phases.containers]
    assert widths == [[20.0, 0.0], [30.0, 0.0], [2.0, 0.0]]
    starts = [container[0].get_x() for container in phases.containers]
    assert starts == [0.0, 20.0, 50.0]
    assert [bar.get_width() for bar in arithmetic.containers[0]] == [60.0, 40.0]
    assert [bar.get_width() for bar in memory.containers[0]] == [80.0, 0.0]


def test_costs_are_told_with_their_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    first, failed = COSTS
    last = dataclasses.replace(first, model="plain-20", parameters=500_000, multiply_adds=40_000_000)
    last = dataclasses.replace(last, forward_ms=None, backward_ms=60.0, memory_bytes=80 * MIB // 3)
    print_cost(StepCosts(sides=(32, 32), rows=(first, failed, last)))
    text = capsys.readouterr().out
    assert "batch 8 of 32x32" in text
    assert "resnet20, reference failed: no [red]luck" in text
    assert "parameters 2.00x, multiply-adds 1.50x, forward -, backward 0.50x, memory 3.00x" in text


def test_heat_maps_are_drawn_as_they_are() -> None:
    reuse = feature_reuse(DenseNet(small_config(block_layers=(2, 3)), "reference"))
    figure = reuse_figure(reuse, "a $title")
    for axes, block in zip(figure.axes, reuse.blocks, strict=False):
        layers, reader = (np.ma.filled(image.get_array(), np.nan) for image in axes.images)
        values = np.array([[np.nan if v is None else v for v in row] for row in block.values])
        assert np.array_equal(layers, values[:, :-1], equal_nan=True)
        assert np.allclose(reader[:, 0], values[:, -1] / values[:, -1].max())
        # All dense layers are on one scale, which ends at the largest of them.
        assert axes.images[0].get_clim() == figure.axes[0].images[0].get_clim()
    largest = max(max(block.of_target(t)) for block in reuse.blocks for t in range(len(block.targets) - 1))
    assert figure.axes[0].images[0].get_clim()[1] == pytest.approx(largest)


def test_reuse_is_told_by_block(capsys: pytest.CaptureFixture[str]) -> None:
    reuse = feature_reuse(DenseNet(small_config(), "reference"))
    print_reuse("some/where", reuse)
    text = capsys.readouterr().out
    assert "feature reuse of some/where" in text
    assert "transition 1" in text
    assert "1x1 of the bottleneck" in text


def test_runs_are_told_the_best_first(capsys: pytest.CaptureFixture[str]) -> None:
    row = EfficiencyRow(
        network="densenet-bc-22-12",
        series="DenseNet-BC",
        recipe="worse",
        folders=(Path("a"), Path("b")),
        results=tuple(
            RunResult(top1_error=9 + part * 0.5**0.5, training_seconds=90.0) for part in (-0.5, 0.5)
        ),
        paper_error=None,
        parameters=1234,
        multiply_adds=10**6,
        step=StepFigures(step_ms=1.5, memory_bytes=MIB),
        batch=64,
        curves=(),
    )
    better = dataclasses.replace(
        row,
        recipe="better",
        results=(RunResult(top1_error=8.0),),
        step=dataclasses.replace(row.step, failed="no luck"),
    )
    print_efficiency([row, better])
    text = capsys.readouterr().out
    assert text.index("better") < text.index("worse")
    assert "9.00 ± 0.50" in text
    assert "better: no step could be measured: no luck" in text


def test_pictures_are_told_with_their_silent_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    maps = tuple(
        SaliencyMap(block=block, layer="", values=((largest,),), largest=largest)
        for block, largest in ((1, 0.0), (2, 1.0))
    )
    image = ImageSaliency(
        path=Path("a[b].png"),
        explained="cat",
        probability=0.25,
        predicted="dog",
        predicted_probability=0.5,
        maps=maps,
        pixels=torch.zeros(1, 1, 1, dtype=torch.uint8),
    )
    print_saliency("x", [image])
    text = capsys.readouterr().out
    assert "a[b].png" in text
    assert "25.0%" in text


def test_all_are_written_as_png_and_svg(tmp_path: Path) -> None:
    write_memory(growth(), tmp_path / "memory")
    write_cost(COSTS, tmp_path / "cost")
    write_reuse(feature_reuse(DenseNet(small_config(), "reference")), "a title", tmp_path / "reuse")
    for name in ("memory", "cost", "reuse"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 600
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
