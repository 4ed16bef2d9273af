"""The measured steps of a reproduction: each once, kept in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured_times import given_step, no_step, times

from densenets.profiling import measured_step
from densenets.profiling.measured_step import MeasuredStep
from densenets.profiling.worker_jobs import StepMemory
from densenets.reproduce import plan_cost as cost
from densenets.reproduce.options import ReproduceOptions
from densenets.reproduce.plan import planned_runs
from densenets.reproduce.plan_cost import measured_costs


def test_recipes_whose_steps_compute_the_same_share_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measured_step", lambda _: given_step())
    runs = planned_runs(ReproduceOptions("table2", scale="paper", seeds=1, out=tmp_path))
    told: list[str] = []
    costs = measured_costs(runs, tmp_path, told.append)
    assert set(costs) == {run.entry.base for run in runs}
    of_resnet = [line.split()[-1] for line in told if line.endswith("-resnet110")]
    # 10 classes with and without augmentation are one measurement, SVHN's too; 100 classes are another.
    assert of_resnet == ["cifar10-plain-own-resnet110", "cifar100-plain-own-resnet110"]
    # A DenseNet has dropout without augmentation alone.
    assert len([line for line in told if line.endswith("-densenet-40-12")]) == 4


def test_each_recipe_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = planned_runs(ReproduceOptions("fig4", seeds=2, out=tmp_path))
    jobs = []

    def child(module: str, job: dict[str, object], answer: type) -> object:
        jobs.append(job)
        if job["quantity"] == "memory":
            return StepMemory(in_use_bytes=5)
        if len(jobs) == 1:
            return no_step("no luck")
        return times(3.5, 3.5, 3.5, peak_bytes=9)

    monkeypatch.setattr(measured_step, "run_job", child)
    told: list[str] = []
    costs = measured_costs(runs, tmp_path, told.append)
    networks = len(runs) // 2
    assert len(costs) == len(told) == networks
    assert len(jobs) == 2 * networks - 1  # of what failed no memory is asked
    first, second, *_ = costs.values()
    assert first == no_step("no luck")
    assert isinstance(second, MeasuredStep)
    assert second.seconds == 3.5
    assert second.in_use_bytes == 5
    # What failed is measured again, the others stand in files.
    jobs.clear()
    jobs.append({})
    assert measured_costs(runs, tmp_path, told.append)[runs[1].entry.base] == second
    assert len(jobs) == 1 + 2
