"""Planned runs: what they are started with, how far they are, and what they cost."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from digits_runs import digits_run
from measured_times import given_step

from densenets.cli.arguments import parse
from densenets.cli.train import recipe_fields, train_command
from densenets.models.registry import named_config
from densenets.reproduce.options import TARGETS, DataPlace, ReproduceOptions
from densenets.reproduce.plan import PlannedRun, cost_of, flags, planned_runs, steps_of
from densenets.reproduce.plan_cost import estimated_seconds, plan_rows
from densenets.training.recipe import Recipe, recipe_from_dict


def parsed(run: PlannedRun) -> tuple[Recipe, Path, bool]:
    """What the command line makes of a run's command."""
    _, _, _, verb, base, *arguments = run.command()
    assert verb == "train"
    options = parse(train_command(base), arguments)
    return Recipe(**recipe_fields(options)), options.out, options.resume


@pytest.mark.parametrize(("target", "scale"), list(itertools.product(TARGETS, ("cpu", "gpu", "paper"))))
def test_a_runs_command_is_its_recipe(target: str, scale: str, tmp_path: Path) -> None:
    options = ReproduceOptions(
        target, scale=scale, out=tmp_path, data=DataPlace(tmp_path / "my data"), seeds=2
    )  # type: ignore[arg-type]
    runs = planned_runs(options)
    for run in (runs[0], runs[-1]):
        recipe, out, resume = parsed(run)
        assert recipe == run.recipe
        assert recipe.training.seed == run.seed
        assert (out, resume) == (run.folder, True)
        assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_flags_of_every_kind() -> None:
    changes = {
        "training.channels_last": True,
        "training.tensorboard": False,
        "schedule.milestones": (0.5, 0.75),
        "data.held_out": 5000,
        "model.name": "resnet20",
    }
    assert flags(changes) == [
        "--training.channels-last", "--training.no-tensorboard", "--schedule.milestones", "0.5", "0.75",
        "--data.held-out", "5000", "--model.name", "resnet20",
    ]  # fmt: skip


def test_all_networks_come_once_before_any_comes_twice(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("fig4", seeds=3, out=tmp_path))
    count = len(runs) // 3
    assert [run.seed for run in runs] == [0] * count + [1] * count + [2] * count
    assert len({run.folder for run in runs}) == len(runs)


def test_shards_are_all_runs_and_none_twice(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("table2", scale="paper", seeds=2, out=tmp_path))
    folders: list[Path] = []
    for number in (1, 2, 3):
        part, parts = ReproduceOptions("table2", shard=f"{number}/3").shard_place
        folders += [run.folder for run in runs[part::parts]]
    assert sorted(folders) == sorted(run.folder for run in runs)


def test_several_devices_train_a_run_through_torchrun(tmp_path: Path) -> None:
    (run, *_) = planned_runs(ReproduceOptions("fig4", processes=4, out=tmp_path))
    command = " ".join(run.command())
    assert "torch.distributed.run --standalone --nproc-per-node=4 -m densenets train cifar10-" in command


def test_ten_crops_are_a_second_evaluation(tmp_path: Path) -> None:
    (run, *_) = planned_runs(
        ReproduceOptions("table3", scale="paper", data=DataPlace(tmp_path / "in"), out=tmp_path)
    )
    command = run.ten_crop_command()
    assert command[3:6] == ["evaluate", str(run.folder), "--data"]
    assert command[-4:] == ["--crops", "10", "--out", str(run.folder / "ten-crop")]
    assert run.state == "new"
    run.folder.mkdir(parents=True)
    (run.folder / "evaluation.json").write_text("{}")
    assert run.state == "cut"  # the ten crops are missing
    (run.folder / "ten-crop").mkdir()
    (run.folder / "ten-crop" / "evaluation.json").write_text("{}")
    assert run.state == "done"


def test_states(tmp_path: Path) -> None:
    run = digits_run(tmp_path)
    assert run.state == "new"
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.json").write_text("{}")
    assert run.state == "cut"
    run.failure_file.write_text(json.dumps({"reason": "no luck"}))
    assert (run.state, run.failure) == ("failed", "no luck")
    (run.folder / "evaluation.json").write_text("{}")
    assert (run.state, run.failure) == ("done", "")


def test_cost_is_arithmetic_and_a_measured_step(tmp_path: Path) -> None:
    runs = planned_runs(ReproduceOptions("fig4", seeds=2, out=tmp_path))
    run = next(run for run in runs if run.entry.network == "plain-20")
    # 12,800 images in batches of 64, 8 epochs.
    assert steps_of(run.recipe) == 1600
    arithmetic = cost_of(run.recipe)
    training = arithmetic.training_multiply_adds
    assert arithmetic.parameters == 269_722
    assert training == 3 * arithmetic.multiply_adds * 12_800 * 8
    assert named_config("plain-20").num_classes == 10
    cost = given_step(forward_seconds=0.2, backward_seconds=0.29, optimizer_seconds=0.01)
    costs = {run.entry.base: cost}
    assert estimated_seconds(run, costs) == pytest.approx(800)
    assert estimated_seconds(runs[0], costs) is None
    rows = {row.network: row for row in plan_rows(runs, costs)}
    assert rows["plain-20"].seconds_left == pytest.approx(1600)
    assert rows["plain-20"].training_multiply_adds == 2 * training
    assert rows["densenet-bc-52-12"].seconds_left is None
    run.folder.mkdir(parents=True)
    (run.folder / "evaluation.json").write_text("{}")
    (row,) = (row for row in plan_rows(runs, costs) if row.network == "plain-20")
    assert row.states == {"new": 1, "cut": 0, "done": 1, "failed": 0}
    assert row.seconds_left == pytest.approx(800)
