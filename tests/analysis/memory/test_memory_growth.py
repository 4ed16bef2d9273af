"""Memory against depth and batch: growth and largest batch from given measurements, and a real one."""

from __future__ import annotations

import dataclasses

import pytest
from measured_times import no_step

from densenets.analysis.memory import compute as memory
from densenets.analysis.memory.compute import at_scale, measurements, memory_growth
from densenets.analysis.memory.memory_config import MemoryConfig
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import StepMemory
from densenets.subprocess_jobs import JobFailure

CONFIG = MemoryConfig(
    model="densenet-bc-52-12", batch=8, batches=(2, 4, 8), executions=("reference", "fused"), memory="10kB"
)
OVERHEAD = 1_000  # bytes, of whatever batch


def layers_of(step: StepConfig) -> int:
    assert isinstance(step.network, DenseNetConfig)
    return sum(step.network.block_layers)


def given(step: StepConfig) -> StepMemory:
    """Memory that grows with the square of the layers in reference, and with the layers in fused."""
    layers = layers_of(step)
    image = layers**2 if step.execution == "reference" else 2 * layers
    return StepMemory(in_use_bytes=OVERHEAD + step.batch * image)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[StepConfig]:
    steps: list[StepConfig] = []

    def measure(step: StepConfig) -> StepMemory:
        steps.append(step)
        return given(step)

    monkeypatch.setattr(memory, "measured_memory", measure)
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    return steps


def test_linear_and_quadratic_growth_are_told_apart(measured: list[StepConfig]) -> None:
    growth = memory_growth(CONFIG, lambda _: None)
    exponents = {row.execution: row.exponent for row in growth.growth}
    # What does not grow with the batch is not in it.
    assert exponents["reference"] == pytest.approx(2)
    assert exponents["fused"] == pytest.approx(1)
    assert [row.layers for row in growth.by_depth[:4]] == [6, 12, 18, 24]
    assert [row.depth for row in growth.by_depth[:4]] == [16, 28, 40, 52]
    assert [row.image_bytes for row in growth.by_depth[:4]] == [36, 144, 324, 576]


def test_the_prediction_is_that_of_summary(measured: list[StepConfig]) -> None:
    growth = memory_growth(CONFIG, lambda _: None)
    facts = layer_table("x", CONFIG.step.network, (32, 32))
    for row in growth.by_batch:
        stored = facts.total("stored_reference" if row.execution == "reference" else "stored_fused")
        # A weight has a gradient and a momentum.
        assert row.predicted_bytes == row.batch * stored + 12 * facts.total("parameters")
    image = next(row for row in growth.by_depth if row.execution == "fused" and row.layers == 24)
    assert image.predicted_image_bytes == facts.total("stored_fused")
    half = dataclasses.replace(CONFIG, precision="bfloat16")
    rows = memory_growth(half, lambda _: None).by_batch
    assert {row.predicted_bytes for row in rows} == {None}


def test_the_largest_batch_fits_and_the_next_does_not(measured: list[StepConfig]) -> None:
    growth = memory_growth(CONFIG, lambda _: None)
    for row in growth.largest:
        assert row.known_by == "measured"
        image = 576 if row.execution == "reference" else 48
        assert row.bytes == OVERHEAD + row.batch * image <= 10_000 < row.bytes + image


def test_a_batch_that_does_not_fit_after_all_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(step: StepConfig) -> StepMemory:
        # Beyond 8 images a workspace comes on top, which the line does not know.
        extra = 3_000 if step.batch > 8 else 0
        return StepMemory(in_use_bytes=OVERHEAD + extra + 576 * step.batch)

    monkeypatch.setattr(memory, "measured_memory", measure)
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    config = dataclasses.replace(CONFIG, executions=("reference",))
    (row,) = memory_growth(config, lambda _: None).largest
    assert row.known_by == "measured"
    assert row.bytes == OVERHEAD + 3_000 + 576 * row.batch <= 10_000


def test_what_the_machine_has_not_is_not_tried(measured: list[StepConfig]) -> None:
    config = dataclasses.replace(CONFIG, memory="1000GB", executions=("fused",))
    (row,) = memory_growth(config, lambda _: None).largest
    assert row.known_by == "the line, this machine has less"
    assert row.batch == (10**12 - OVERHEAD) // 48
    assert max(step.batch for step in measured) == 8


def test_too_little_memory_takes_no_image(measured: list[StepConfig]) -> None:
    config = dataclasses.replace(CONFIG, memory=f"{OVERHEAD}B", executions=("fused",))
    (row,) = memory_growth(config, lambda _: None).largest
    assert (row.batch, row.known_by) == (0, "not even one image fits")


def test_nothing_is_measured_twice_and_all_is_announced(measured: list[StepConfig]) -> None:
    told: list[str] = []
    memory_growth(CONFIG, told.append)
    assert len(measured) == len(set(measured)) == len(told) <= measurements(CONFIG)
    assert told[0] == "reference, depth 16, batch 4"


def test_a_failure_is_told_and_the_others_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(step: StepConfig) -> StepMemory | JobFailure:
        if step.execution == "fused":
            return no_step("killed by SIGKILL")
        return given(step)

    monkeypatch.setattr(memory, "measured_memory", measure)
    growth = memory_growth(CONFIG, lambda _: None)
    assert growth.growth[0].exponent == pytest.approx(2)
    assert growth.growth[1].exponent is None
    assert growth.largest[1].known_by == "two measured batches are needed"
    assert "fused, depth 16, batch 4 failed: killed by SIGKILL" in growth.failures
    assert len(growth.rows()) == 8 + 6


@pytest.mark.slow
def test_a_real_measurement_agrees_with_the_prediction() -> None:
    """Of an image more, which needs no workspace of its own, in the execution that PyTorch stores alone."""
    config = MemoryConfig(
        model="densenet-bc-22-12", batch=64, scales=(1.0,), batches=(64,), executions=("reference",)
    )
    (row,) = memory_growth(config, lambda _: None).by_depth
    if row.image_bytes is None:
        pytest.skip("this system does not tell what is in use")
    assert row.predicted_image_bytes is not None
    assert row.image_bytes == pytest.approx(row.predicted_image_bytes, rel=0.25)


def test_a_share_of_the_layers_is_at_least_one_a_block() -> None:
    network = named_config("densenet121")
    assert at_scale(network, 0.5).block_layers == (3, 6, 12, 8)  # type: ignore[attr-defined]
    assert at_scale(network, 0.01).block_layers == (1, 1, 1, 1)  # type: ignore[attr-defined]
