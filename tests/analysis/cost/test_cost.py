"""What a step costs: rates from given times, ratios, and a step that failed."""

from __future__ import annotations

import dataclasses

import pytest
from measured_times import given_step, no_step

from densenets.analysis.cost import compute as cost
from densenets.analysis.cost.compute import StepCosts, step_costs
from densenets.analysis.cost.cost_config import CostConfig
from densenets.profiling.measured_step import MeasuredStep
from densenets.profiling.step import StepConfig

FOUND = given_step(backward_seconds=0.5, optimizer_seconds=0.1, batch=4)


def config(*models: str) -> CostConfig:
    return CostConfig(models=models, batch=4)


def test_rates_follow_from_times_and_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measured_step", lambda _: FOUND)
    told: list[str] = []
    row, _, last = step_costs(config("densenet-bc-22-12", "resnet20"), told.append).rows
    assert told == ["densenet-bc-22-12, reference", "densenet-bc-22-12, fused", "resnet20, reference"]
    assert (row.forward_ms, row.backward_ms, row.optimizer_ms) == (50.0, 125.0, 25.0)
    assert row.step_ms == pytest.approx(200.0)
    assert row.memory_bytes == 8
    # A multiply-add is two operations, and a backward pass two forward passes.
    assert row.forward_gigaflops == pytest.approx(2 * row.multiply_adds * 4 / 0.2 / 1e9)
    assert row.backward_gigaflops == pytest.approx(4 * row.multiply_adds * 4 / 0.5 / 1e9)
    assert last.parameters == 269_722


def test_ratios_are_to_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(step: StepConfig) -> MeasuredStep:
        return dataclasses.replace(FOUND, forward_seconds=0.6) if step.execution == "reference" else FOUND

    monkeypatch.setattr(cost, "measured_step", measured)
    costs = step_costs(config("densenet-bc-22-12", "resnet20"), lambda _: None)
    first, last = StepCosts(sides=costs.sides, rows=costs.rows[:2]).compared_to_last()
    assert first.forward_ms == pytest.approx(3.0)
    assert first.backward_ms == first.parameters == 1.0
    assert last.forward_ms == 1.0


def test_what_failed_stays_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measured_step", lambda _: no_step("out of luck"))
    costs = step_costs(config("resnet20", "plain-20"), lambda _: None)
    row = costs.rows[0]
    assert row.to_dict()["failed"] == row.failed == "out of luck"
    assert row.forward_ms is None
    assert row.parameters > 0
    assert costs.compared_to_last()[0].parameters is None
