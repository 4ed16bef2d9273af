"""A run on real digits: what it leaves, what its options do, and what it refuses."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import threading
from pathlib import Path

import pytest
import torch
from quick_tests import every
from training_runs import small_recipe, weights

import densenets
from densenets.checkpoint import read_checkpoint
from densenets.errors import InputError, Interrupted, NotFinite
from densenets.files import exclusive, read_json_lines
from densenets.report.run_pictures import write_run_pictures
from densenets.training import loop
from densenets.training.loop import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "digits"
    result = train(small_recipe(), out)
    write_run_pictures(result, out)  # as `densenets train` does
    return out, result


def test_a_run_leaves_what_its_users_need(finished):
    out, result = finished
    assert json.loads((out / "evaluation.json").read_text()) == result
    assert result["images"] == 360
    right = sum(row[i] for i, row in enumerate(result["confusion"]))
    assert result["top1_error"] == pytest.approx(100 * (360 - right) / 360)
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe == small_recipe().to_dict()
    (start,) = json.loads((out / "environment.json").read_text())
    assert start["torch"] == torch.__version__.split("+")[0]
    for name in ("confusion.png", "confusion.svg", "curves.png", "curves.svg", "checkpoints/state.pt"):
        assert (out / name).stat().st_size > 1000, name
    assert list((out / "tensorboard").glob("events.*"))
    assert not list(out.rglob("*.partial"))


def test_metrics_tell_of_every_epoch_and_every_fifth_step(finished):
    out, _ = finished
    lines = read_json_lines(out / "metrics.jsonl")
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    # 1437 images in batches of 64: 22 whole ones, and the rest of 29 is a step too.
    assert [line["run_step"] for line in epochs] == [23, 46]
    steps = [line["run_step"] for line in lines if line["kind"] == "step"]
    assert steps == [5, 10, 15, 20, 28, 33, 38, 43]
    assert epochs[1]["train_loss"] < epochs[0]["train_loss"]


def test_the_network_learns(finished):
    _, result = finished
    assert result["top1_error"] < 75  # guessing is 90; the full demo gets below 3


def test_load_rebuilds_the_reported_network(finished):
    out, result = finished
    model = densenets.load(out)
    assert not model.training
    from densenets.data.load import load_data

    data = load_data(small_recipe().data)
    pixels = (data.test.pixels.float() / 255 - data.preprocessing.mean[0]) / data.preprocessing.std[0]
    with torch.no_grad():
        wrong = (model(pixels).argmax(dim=1) != data.test.labels).sum()
    assert 100 * int(wrong) / 360 == pytest.approx(result["top1_error"])


def test_the_same_recipe_gives_the_same_bits(finished, tmp_path):
    before = torch.get_rng_state()
    train(small_recipe(), tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), before)  # which is the caller's
    ours, theirs = weights(finished[0]), weights(tmp_path / "again")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_finished_run_only_reports_again(finished):
    out, result = finished
    before = (out / "checkpoints" / "state.pt").read_bytes()
    again = train(small_recipe(), out, resume=True)
    assert again["confusion"] == result["confusion"]
    assert again["training_seconds"] == result["training_seconds"]
    assert (out / "checkpoints" / "state.pt").read_bytes() == before


@every(
    "options",
    [
        {"optimizer.name": "adamw", "optimizer.learning_rate": 0.003, "optimizer.weight_decay": 0.01},
        {"training.precision": "bfloat16", "optimizer.gradient_clip": 1.0},
        {"training.ema_decay": 0.9, "training.accumulation": 3, "training.mixup": 0.0},
        {"schedule.name": "onecycle", "model.execution": "recompute", "training.report": "auto"},
        {"data.held_out": 0.1, "data.augmentation": ("mirror", "normalize"), "training.tensorboard": False},
    ],
    quick=lambda options: "training.accumulation" in options,
    ids=lambda options: next(iter(options.values())),
)
def test_options_train_to_the_end_and_learn(options, tmp_path):
    result = train(with_options(small_recipe(), options), tmp_path / "run")
    assert result["images"] == 360
    assert result["top1_error"] < 80


def with_options(recipe, options):
    for name, value in options.items():
        group, field = name.split(".")
        part = dataclasses.replace(getattr(recipe, group), **{field: value})
        recipe = dataclasses.replace(recipe, **{group: part})
    return recipe


def test_held_out_images_are_evaluated_and_not_trained_on(tmp_path):
    recipe = with_options(small_recipe(epochs=1), {"data.held_out": 137})
    result = train(recipe, tmp_path / "run")
    assert result["images"] == 360  # the result is on the test images all the same
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["run_step"] == 1300 // 64 + 1
    share = lines[-1]["validation_top1_error"] * 137 / 100
    assert share == pytest.approx(round(share))


@pytest.mark.slow
def test_the_best_checkpoint_is_the_one_reported(tmp_path):
    # A rate far too high after the first epoch makes the last epoch worse than the best.
    recipe = with_options(
        small_recipe(epochs=4, report="best"),
        {"optimizer.learning_rate": 3.0, "data.held_out": 300, "schedule.warmup_epochs": 3.0},
    )
    result = train(recipe, tmp_path / "run")
    lines = [x for x in read_json_lines(tmp_path / "run" / "metrics.jsonl") if x["kind"] == "epoch"]
    errors = [line["validation_top1_error"] for line in lines]
    assert result["epoch"] == 1 + errors.index(min(errors))


@pytest.mark.slow
def test_compiled_training_follows_eager_training(tmp_path, monkeypatch):
    # The whole of torch.compile but its code generator, which takes minutes and is PyTorch's to test.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    recipe = with_options(small_recipe(epochs=1, mixup=0.0), {"model.dropout": 0.0})
    eager = train(recipe, tmp_path / "eager")
    compiled = train(with_options(recipe, {"training.compile": True}), tmp_path / "compiled")
    # 23 steps of other rounding; far below what one epoch more changes.
    assert compiled["loss"] == pytest.approx(eager["loss"], abs=0.02)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    out = tmp_path / "run"
    recipe = with_options(small_recipe(epochs=3), {"schedule.name": "multistep"})
    # The rate of the second epoch on: the first one leaves a good checkpoint.
    recipe = with_options(recipe, {"schedule.milestones": (1 / 3,), "schedule.factor": 1e30})
    with pytest.raises(InputError, match=r"not a number any more \(epoch 2.*last good checkpoint is"):
        train(recipe, out)
    assert all(torch.isfinite(value).all() for value in weights(out).values())
    assert [x["epoch"] for x in read_json_lines(out / "metrics.jsonl") if x["kind"] == "epoch"] == [1]
    assert not (out / "evaluation.json").exists()


def test_an_epoch_without_finite_logits_stops_with_the_same_advice(tmp_path, monkeypatch):
    out, evaluated = tmp_path / "run", loop.evaluate
    recipe = with_options(small_recipe(epochs=2), {"data.held_out": 300})

    def overflowing(model, *args, **options):
        if (out / "checkpoints" / "last.safetensors").exists():  # finite weights, whose logits are not
            model.get_parameter("classifier.weight").data.fill_(3e38)
        return evaluated(model, *args, **options)

    monkeypatch.setattr(loop, "evaluate", overflowing)
    with pytest.raises(
        NotFinite,
        match=r"of 300 images no finite logits.*\(epoch 2.*last good checkpoint is.*begin a new run",
    ):
        train(recipe, out)
    assert all(torch.isfinite(value).all() for value in weights(out).values())
    assert read_checkpoint(out / "checkpoints" / "last.safetensors").details["epoch"] == 1
    assert "NaN" not in (out / "metrics.jsonl").read_text()


def test_a_full_disk_stops_in_one_line_and_loses_nothing(tmp_path, monkeypatch):
    out = tmp_path / "run"
    train(small_recipe(epochs=1), out)
    before = {path: path.read_bytes() for path in (out / "checkpoints").iterdir()}
    grown = with_options(small_recipe(epochs=1), {})
    recipe = json.loads((out / "recipe.json").read_text())
    recipe["training"]["epochs"] = 2
    (out / "recipe.json").write_text(json.dumps(recipe))
    sync = os.fsync

    def full(descriptor):
        if "checkpoints" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        train(with_options(grown, {"training.epochs": 2}), out, resume=True)
    assert {path: path.read_bytes() for path in (out / "checkpoints").iterdir()} == before


def test_a_folder_with_a_run_needs_resume(finished):
    with pytest.raises(InputError, match="holds a run; go on with it by --resume"):
        train(small_recipe(), finished[0])


def test_a_folder_with_another_recipes_run_is_refused(finished):
    with pytest.raises(InputError, match=r"another recipe's run; they differ in training\.seed"):
        train(small_recipe(seed=1), finished[0], resume=True)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("everything")
    with pytest.raises(InputError, match=r"holds files that are no run's \(thesis\.tex\)"):
        train(small_recipe(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_in_use_is_refused(tmp_path):
    with exclusive(tmp_path), pytest.raises(InputError, match="in use by another process"):
        train(small_recipe(), tmp_path)


def test_a_damaged_state_is_named(finished, tmp_path):
    out = tmp_path / "run"
    train(small_recipe(epochs=1), out)
    state = out / "checkpoints" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        train(small_recipe(epochs=1), out, resume=True)


def test_nothing_is_written_before_the_input_is_checked(tmp_path):
    recipe = with_options(small_recipe(), {"model.name": "densenet121"})
    with pytest.raises(InputError, match="too small"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_in_another_thread_works_without_signals(tmp_path):
    done: list[dict[str, object]] = []
    worker = threading.Thread(target=lambda: done.append(train(small_recipe(epochs=1), tmp_path / "run")))
    worker.start()
    worker.join()
    assert done[0]["images"] == 360


def test_a_request_to_stop_saves_the_step_and_says_how_to_go_on(tmp_path, monkeypatch):
    out = tmp_path / "run"
    step = loop.TrainStep.run

    def stopping(self, batch, rate, epoch, number):
        if (epoch, number) == (1, 7):
            os.kill(os.getpid(), 15)
        return step(self, batch, rate, epoch, number)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainStep, "run", stopping)
        with pytest.raises(Interrupted, match=r"after epoch 1, step 8; go on with --resume") as stop:
            train(small_recipe(), out)
    assert stop.value.signal_number == 15
    result = train(small_recipe(), out, resume=True)
    assert result["epoch"] == 2
    assert len(json.loads((out / "environment.json").read_text())) == 2


GROWING = {
    "training.epochs": 4,  # before the sizes, which are at most one an epoch
    "training.progressive_sizes": (4, 6, 8),
    "training.evaluate_every": 2,
    "training.ema_decay": 0.9,
    "optimizer.decay_norms": False,
}


def test_every_epoch_trains_on_images_of_its_size(tmp_path, monkeypatch):
    seen: dict[int, set[tuple[int, ...]]] = {}
    step = loop.TrainStep.run

    def watched(self, batch, rate, epoch, number):
        seen.setdefault(epoch, set()).add(tuple(batch.images.shape[1:]))
        return step(self, batch, rate, epoch, number)

    monkeypatch.setattr(loop.TrainStep, "run", watched)
    result = train(with_options(small_recipe(), GROWING), tmp_path / "run")
    assert seen == {0: {(1, 4, 4)}, 1: {(1, 4, 4)}, 2: {(1, 6, 6)}, 3: {(1, 8, 8)}}
    assert result["top1_error"] < 80
    lines = [x for x in read_json_lines(tmp_path / "run" / "metrics.jsonl") if x["kind"] == "epoch"]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert all("train_top1_error" in line for line in lines)
    assert ["test_top1_error" in line for line in lines] == [False, True, False, True]
    assert read_checkpoint(tmp_path / "run").preprocessing.image_size == 8


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_bits_across_a_change_of_size(tmp_path, monkeypatch):
    recipe = with_options(small_recipe(), GROWING)
    whole = train(recipe, tmp_path / "whole")
    step = loop.TrainStep.run
    stops = [(1, 22), (2, 0), (2, 7)]  # the last step of the small images, and two of the larger ones

    def stopping(self, batch, rate, epoch, number):
        if stops and (epoch, number) == stops[0]:
            stops.pop(0)
            os.kill(os.getpid(), 15)
        return step(self, batch, rate, epoch, number)

    monkeypatch.setattr(loop.TrainStep, "run", stopping)
    for _ in range(3):
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "parts", resume=True)
    assert train(recipe, tmp_path / "parts", resume=True)["confusion"] == whole["confusion"]
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_running_statistics_are_of_the_size_that_is_evaluated(tmp_path, monkeypatch):
    seen: list[tuple[int, ...]] = []

    def recorded(model, batches):
        seen.extend(tuple(batch.images.shape[1:]) for batch in batches)

    monkeypatch.setattr(loop, "recompute_statistics", recorded)
    train(with_options(small_recipe(statistics_batches=3), GROWING), tmp_path / "run")
    assert seen == [(1, 8, 8)] * 6  # twice, as the weights are evaluated in every other epoch


def test_sizes_below_the_networks_smallest_are_refused(tmp_path):
    recipe = with_options(small_recipe(), {"training.progressive_sizes": (3, 8)})
    with pytest.raises(
        InputError, match="progressive_sizes must be at least 4 pixels for this network, got 3"
    ):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
