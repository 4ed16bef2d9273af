"""Runs on folders: what chooses, what is reported, with what a run goes on, and what is refused first."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import small_recipe, weights

from densenets.analysis.run_facts import read_run
from densenets.checkpoint import checkpoint_path, read_checkpoint
from densenets.cli import main as cli
from densenets.data.batches import BatchOrder, Shard
from densenets.data.load import load_data
from densenets.errors import InputError
from densenets.files import read_json, read_json_lines
from densenets.models.densenet import DenseNet
from densenets.models.registry import named_config
from densenets.training.loop import train
from densenets.training.recipe import Recipe, changed
from densenets.training.recipes import named_recipe
from densenets.training.run_folder import RunFolder


def recipe(root: Path, **fields: Any) -> Recipe:
    """Fine-tuning of a tiny network; `fields` are such as training__epochs=3."""
    return changed(
        named_recipe("finetune"),
        {
            "model.name": "densenet-bc-10-4",
            "data.root": root,
            "data.image_size": 12,
            "data.workers": 0,
            "training.epochs": 2,
            "training.batch_size": 4,
            "training.device": "cpu",
            "training.tensorboard": False,
            **{name.replace("__", "."): value for name, value in fields.items()},
        },
    )


@pytest.fixture
def three_splits(picture_folder: Path) -> Path:
    """train/ with 5 pictures a class, val/ with 3, test/ with 2."""
    shutil.copytree(picture_folder / "val", picture_folder / "test")
    for picture in (picture_folder / "test").glob("*/7.png"):
        picture.unlink()
    return picture_folder


def epochs(out: Path) -> list[dict[str, Any]]:
    return [line for line in read_json_lines(out / "metrics.jsonl") if line["kind"] == "epoch"]


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run(["evaluate", *arguments, "--workers", "0", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_val_chooses_and_test_is_reported(
    three_splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    result = train(recipe(three_splits, training__epochs=3), out)
    told = capsys.readouterr().err.splitlines()
    assert told[:3] == [
        f"{role}: {count} images of 3 classes in {three_splits / name}"
        for role, count, name in (("training", 15, "train"), ("validation", 9, "val"), ("test", 6, "test"))
    ]
    assert "weights: random, of seed 0 (--model.weights begins with trained ones)" in told
    assert any(line.startswith("test error") and "on 6 images" in line for line in told)
    errors = [line["validation_top1_error"] for line in epochs(out)]
    assert (result["split"], result["images"], result["checkpoint"]) == ("test", 6, "best")
    assert result["epoch"] == 1 + errors.index(min(errors))
    again = evaluated(capsys, str(out))
    assert (again["split"], again["confusion"]) == ("test", result["confusion"])
    assert evaluated(capsys, str(out), "--data", str(three_splits))["confusion"] == result["confusion"]
    assert evaluated(capsys, str(out), "--data", str(three_splits / "val"))["split"] == "validation"


def test_without_validation_images_the_last_epoch_is_the_result(
    three_splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(three_splits / "val")
    out = tmp_path / "run"
    result = train(recipe(three_splits), out)
    told = capsys.readouterr().err
    assert "no best checkpoint is written" in told
    assert "validation error" not in told
    assert (result["split"], result["checkpoint"], result["epoch"]) == ("test", "last", 2)
    assert not (out / "checkpoints" / "best.safetensors").exists()
    assert checkpoint_path(out).name == "last.safetensors"
    # The curve is that of the test images, and is called so.
    assert all("test_top1_error" in line and "validation_top1_error" not in line for line in epochs(out))
    assert epochs(out)[-1]["test_top1_error"] == result["top1_error"]
    assert read_run(out).evaluation_split == "test"
    assert read_checkpoint(out).details["test_top1_error"] == result["top1_error"]


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_without_a_test_set_the_error_is_a_validation_error(
    picture_folder: Path, tmp_path: Path, held_out: float, capsys: pytest.CaptureFixture[str]
) -> None:
    root = picture_folder / "train" if held_out else picture_folder
    out = tmp_path / "run"
    result = train(recipe(root, data__held_out=held_out), out)
    told = capsys.readouterr().err
    assert "test: none" in told
    assert "test error" not in told
    assert f"on {3 if held_out else 9} images" in told
    assert (result["split"], result["checkpoint"]) == ("validation", "best")
    assert result["top1_error"] == min(line["validation_top1_error"] for line in epochs(out))
    again = evaluated(capsys, str(out))
    assert (again["split"], again["confusion"]) == ("validation", result["confusion"])


def test_the_best_of_nothing_is_refused_before_anything_is_written(
    three_splits: Path, tmp_path: Path
) -> None:
    shutil.rmtree(three_splits / "val")
    for wanted in (
        recipe(three_splits, training__report="best"),
        small_recipe(report="best"),
    ):
        with pytest.raises(InputError, match="report best needs validation images"):
            train(wanted, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_named_sets_test_images_choose_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = train(small_recipe(epochs=1, batch_size=512), out)
    assert result["split"] == "test"
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["last.safetensors", "state.pt"]
    assert epochs(out)[0]["test_top1_error"] == result["top1_error"]
    # An older version called them validation images.
    old = (out / "metrics.jsonl").read_text().replace('"test_', '"validation_')
    (out / "metrics.jsonl").write_text(old)
    assert read_run(out).evaluation_split == "test"


class Stop(BaseException):
    pass


def stopped(wanted: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int) -> None:
    """Train until the state was saved after some steps of the first epoch."""
    save = RunFolder.save_state

    def save_and_stop(self: RunFolder, progress: Any, training: dict[str, Any]) -> None:
        save(self, progress, training)
        if progress.step == steps:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        with pytest.raises(Stop):
            train(changed(wanted, {"training.checkpoint_minutes": 0.0}), out)


def add_class(root: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(root / split / "one", root / split / "eleven")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "renamed": (
        lambda root: [(root / split / "one").rename(root / split / "zz") for split in ("train", "val")],
        "'zz' is new and 'one' is gone",
    ),
    "added": (add_class, "'eleven' is new"),
    "fewer": (lambda root: (root / "train/one/0.png").unlink(), "training images .*14 now, 15 at the start"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_classes_or_images_are_refused_on_resume(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    out, wanted = tmp_path / "run", recipe(picture_folder)
    stopped(wanted, out, monkeypatch, steps=2)
    state = (out / "checkpoints" / "state.pt").read_bytes()
    CHANGES[change][0](picture_folder)
    with pytest.raises(InputError, match=rf"cannot go on: .*{CHANGES[change][1]}.*--out"):
        train(wanted, out, resume=True)
    assert (out / "checkpoints" / "state.pt").read_bytes() == state


def test_an_older_versions_run_is_compared_by_its_classes(picture_folder: Path, tmp_path: Path) -> None:
    out, wanted = tmp_path / "run", recipe(picture_folder)
    result = train(wanted, out)
    (out / "data.json").unlink()
    assert train(wanted, out, resume=True)["confusion"] == result["confusion"]
    add_class(picture_folder)
    (out / "data.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="'eleven' is new"):
        train(wanted, out, resume=True)


def test_a_run_goes_on_without_a_picture_that_turned_out_broken(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(picture_folder, data__held_out=0.2)
    training = load_data(wanted.data).training
    # A picture of the last step: the first ones are the same with and without it.
    *_, (last, _, _) = BatchOrder(count=len(training), batch_size=4, seed=0, shard=Shard()).epoch(0)
    broken = training.paths[int(last[0])]
    whole = broken.read_bytes()

    stopped(wanted, tmp_path / "run", monkeypatch, steps=2)
    broken.write_bytes(whole[:40])
    with pytest.raises(InputError, match=r"broken image .*--data\.skip-broken"):
        train(wanted, tmp_path / "run", resume=True)
    advised = changed(wanted, {"data.skip_broken": True})
    result = train(advised, tmp_path / "run", resume=True)

    uninterrupted = train(advised, tmp_path / "whole")
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert result["confusion"] == uninterrupted["confusion"]
    assert read_json(tmp_path / "run/data.json") == read_json(tmp_path / "whole/data.json")


@pytest.mark.parametrize(
    "fields", [{"training__batch_size": 1}, {"training__statistics_batches": 1, "training__batch_size": 1}]
)
def test_one_image_and_one_pixel_are_one_line(
    picture_folder: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"raise --training\.batch-size to 2 or more, or --data\.image-size"):
        train(recipe(picture_folder, data__image_size=4, **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"training__batch_size": 1, "data__image_size": 16},  # maps of four pixels are enough
        {"training__batch_size": 14, "data__image_size": 4},  # the 15th image would be a step of its own
        {"training__batch_size": 5, "training__accumulation": 5, "data__image_size": 4},
    ],
)
def test_what_batch_normalisation_can_learn_from_trains(
    picture_folder: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert train(recipe(picture_folder, training__epochs=1, **fields), tmp_path / "run")["images"] == 9


def test_a_new_run_begins_with_the_last_good_checkpoint(picture_folder: Path, tmp_path: Path) -> None:
    # As the line advises when a loss is no number any more.
    train(recipe(picture_folder), tmp_path / "run")
    good = tmp_path / "run" / "checkpoints" / "last.safetensors"
    result = train(recipe(picture_folder, model__weights=good), tmp_path / "again")
    assert result["images"] == 9


def test_weights_of_other_channels_are_adapted_and_it_is_said(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    grey = DenseNet(dataclasses.replace(named_config("densenet-bc-10-4"), in_channels=1))
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    train(recipe(picture_folder, model__weights=tmp_path / "grey.pth", training__epochs=1), tmp_path / "run")
    told = capsys.readouterr().err
    assert "the first convolution's 1 channels are repeated, and scaled by 1/3 for images of 3" in told
    assert read_checkpoint(tmp_path / "run").model.config.in_channels == 3
