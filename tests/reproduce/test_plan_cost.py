"""The measured steps of a reproduction: each once, kept in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured_times import times

from densenets.profiling import measured_step
from densenets.profiling.measured_step import step_seconds
from densenets.reproduce import plan_cost as cost
from densenets.reproduce.options import ReproduceOptions
from densenets.reproduce.plan import planned_runs
from densenets.reproduce.plan_cost import measured_costs


def test_recipes_whose_steps_compute_the_same_share_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"forward_seconds": 1.0, "backward_seconds": 2.0, "optimizer_seconds": 0.5, "memory_bytes": 9}
    monkeypatch.setattr(cost, "measured_step", lambda _: dict(found))
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

    def child(module: str, job: dict[str, object]) -> dict[str, object]:
        jobs.append(job)
        if job["quantity"] == "memory":
            return {"in_use_bytes": 5}
        if len(jobs) == 1:
            return {"failed": "no luck", "stderr": ""}
        return times(3.5, 3.5, 3.5, peak_bytes=9)

    monkeypatch.setattr(measured_step, "run_job", child)
    told: list[str] = []
    costs = measured_costs(runs, tmp_path, told.append)
    networks = len(runs) // 2
    assert len(costs) == len(told) == networks
    assert len(jobs) == 2 * networks - 1  # of what failed no memory is asked
    first, second, *_ = costs.values()
    assert first["failed"] == "no luck"
    assert (step_seconds(first), step_seconds(second)) == (None, 3.5)
    assert second["in_use_bytes"] == 5
    # What failed is measured again, the others stand in files.
    jobs.clear()
    jobs.append({})
    assert json.dumps(measured_costs(runs, tmp_path, told.append)[runs[1].entry.base]) == json.dumps(second)
    assert len(jobs) == 1 + 2
