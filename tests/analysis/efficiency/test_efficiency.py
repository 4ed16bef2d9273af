"""Finished runs side by side: means over seeds, costs measured once, and runs that cannot be compared."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from measured_times import given_step, no_step
from training_runs import small_recipe

from densenets.analysis import run_facts as runs
from densenets.analysis.efficiency.compute import efficiency_rows
from densenets.analysis.run_facts import read_run
from densenets.errors import InputError
from densenets.files import read_json, write_json
from densenets.models.layer_table import layer_table
from densenets.profiling.measured_step import MeasuredStep
from densenets.profiling.step import StepConfig
from densenets.training.loop import train
from densenets.training.recipe import changed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of a DenseNet, and a ResNet; an epoch each."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = small_recipe(epochs=1, batch_size=256, tensorboard=False)
    recipes = {
        "a": recipe,
        "b": changed(recipe, {"training.seed": 1}),
        "c": changed(recipe, {"model.name": "resnet8", "model.dropout": 0.0}),
    }
    for name, run in recipes.items():
        train(run, folder / name)
    return [folder / name for name in recipes]


def test_seeds_are_one_row_and_their_mean_is_the_error(finished: list[Path]) -> None:
    rows = efficiency_rows(finished, measure=False, announce=lambda _: None)
    dense, residual = rows
    errors = [read_json(folder / "evaluation.json")["top1_error"] for folder in finished]
    assert dense.errors == errors[:2]
    assert dense.mean_error == pytest.approx(statistics.fmean(errors[:2]))
    assert dense.deviation == pytest.approx(statistics.stdev(errors[:2]))
    assert residual.errors == errors[2:]
    assert residual.deviation is None
    assert [row.series for row in rows] == ["DenseNet-BC", "ResNet"]
    assert [row.network for row in rows] == ["densenet-bc-10-4", "resnet8"]
    assert dense.step.step_ms is None
    assert len(dense.curves) == 1


def test_arithmetic_is_that_of_the_trained_network(finished: list[Path]) -> None:
    row = efficiency_rows(finished[2:], measure=False, announce=lambda _: None)[0]
    # Grey images of 8 pixels and 10 classes, whatever the name's own are.
    config = read_run(finished[2]).description.config
    facts = layer_table("resnet8", config, (8, 8))
    assert config.in_channels == 1
    assert row.parameters == facts.total("parameters")
    assert row.multiply_adds == facts.total("multiply_adds")


def test_a_step_is_measured_once_and_kept(finished: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[StepConfig] = []

    def measure(step: StepConfig) -> MeasuredStep:
        steps.append(step)
        return given_step()

    monkeypatch.setattr(runs, "measured_step", measure)
    told: list[str] = []
    first = efficiency_rows(finished, measure=True, announce=told.append)
    again = efficiency_rows(finished, measure=True, announce=told.append)
    assert first == again
    assert len(steps) == len(told) == 2
    assert first[0].step.step_ms == pytest.approx(10.0)
    assert first[0].step.memory_bytes == 8
    assert (steps[0].batch, steps[0].sides) == (256, (8, 8))
    # What another version kept is measured anew.
    write_json(finished[0] / "step-cost-auto.json", {"forward_seconds": 1.0})
    anew = efficiency_rows(finished, measure=True, announce=told.append)
    assert anew[0].step.step_ms == first[0].step.step_ms
    assert len(steps) == 3
    for folder in finished:
        for file in folder.glob("step-cost-*.json"):
            file.unlink()


def test_what_could_not_be_measured_is_told_and_tried_again(
    finished: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "measured_step", lambda _: no_step("no luck"))
    row = efficiency_rows(finished[:1], measure=True, announce=lambda _: None)[0]
    assert row.step.failed == "no luck"
    assert row.step.step_ms is None
    assert not list(finished[0].glob("step-cost-*.json"))


def test_runs_that_cannot_be_compared_are_named(finished: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run's folder"):
        efficiency_rows([tmp_path], measure=False, announce=lambda _: None)
    other = tmp_path / "other"
    train(changed(small_recipe(epochs=1, batch_size=256, tensorboard=False), {"training.seed": 5}), other)
    recipe = read_json(other / "recipe.json")
    write_json(other / "recipe.json", {**recipe, "data": {**recipe["data"], "name": "fashion-mnist"}})
    with pytest.raises(InputError, match="the runs are of digits and fashion-mnist"):
        efficiency_rows([finished[0], other], measure=False, announce=lambda _: None)
    (other / "evaluation.json").unlink()
    with pytest.raises(InputError, match="has not come to its end; go on with --resume"):
        efficiency_rows([other], measure=False, announce=lambda _: None)
    write_json(other / "recipe.json", {"name": "something else"})
    with pytest.raises(InputError, match=r"recipe\.json is no recipe"):
        read_run(other)
