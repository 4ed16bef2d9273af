"""The measured step: its phases, its memory, and what it is measured on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from training_runs import small_recipe

from densenets.children import run_job
from densenets.reproduce import cost
from densenets.reproduce.config import ReproduceOptions
from densenets.reproduce.cost import measured_costs, step_seconds
from densenets.reproduce.measure import _Step, measure
from densenets.reproduce.plan import planned_runs
from densenets.training.recipe import ModelRecipe, Recipe, changed
from densenets.training.recipes import named_recipe


def test_a_process_reports_phases_and_memory() -> None:
    recipe = changed(small_recipe(), {"training.batch_size": 32})
    job = {"recipe": recipe.to_dict(), "in_use": False}
    result = run_job("densenets.reproduce.measure", job)
    assert "failed" not in result, result
    assert {"device", "torch", "date"} <= set(result)
    assert result["batch"] == 32
    assert result["steps"] == 7
    for phase in ("forward", "backward", "optimizer"):
        assert result[f"{phase}_seconds"] > 0
    assert 0 < result["memory_bytes"] < 2**30
    in_use = run_job("densenets.reproduce.measure", {**job, "in_use": True})
    assert in_use["in_use_bytes"] is None or 0 < in_use["in_use_bytes"] < 2**30


def test_larger_batches_need_more_memory() -> None:
    small, large = (
        run_job(
            "densenets.reproduce.measure",
            {"recipe": changed(small_recipe(), {"training.batch_size": n}).to_dict(), "in_use": True},
        )["in_use_bytes"]
        for n in (64, 1024)
    )
    if small is None:
        pytest.skip("this system does not tell what is in use")
    # The weights, their gradients and the workspaces stay as they are.
    assert large > 2 * small


def cifar(network: str) -> Recipe:
    return changed(named_recipe(f"cifar10-{network}"), {"training.batch_size": 2})


def test_the_network_is_that_of_the_data() -> None:
    step = _Step(changed(cifar("resnet8"), {"training.channels_last": True}), torch.device("cpu"))
    assert step.model.config.num_classes == 10
    assert step.model.state_dict()["conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    grey = _Step(dataclasses.replace(small_recipe(), model=ModelRecipe(name="resnet8")), torch.device("cpu"))
    assert grey.model.config.in_channels == 1


def test_a_step_moves_the_weights_and_companions_are_trained_too() -> None:
    step = _Step(cifar("dsn"), torch.device("cpu"))
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    assert all(seconds > 0 for seconds in step())
    after = step.model.state_dict()
    assert not torch.equal(after["companions.conv1.weight"], before["companions.conv1.weight"])


def test_steps_that_differ_by_chance_are_averaged_over_more_of_them() -> None:
    assert measure(cifar("stochastic-depth-8"))["steps"] == 20
    assert measure(cifar("resnet8"))["steps"] == 7


def test_recipes_whose_steps_compute_the_same_share_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"forward_seconds": 1.0, "backward_seconds": 2.0, "optimizer_seconds": 0.5, "memory_bytes": 9}
    monkeypatch.setattr(cost, "run_job", lambda *_: dict(step))
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
        if job["in_use"]:
            return {"in_use_bytes": 5}
        if len(jobs) == 1:
            return {"failed": "no luck", "stderr": ""}
        return {"forward_seconds": 1.0, "backward_seconds": 2.0, "optimizer_seconds": 0.5, "memory_bytes": 9}

    monkeypatch.setattr(cost, "run_job", child)
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
