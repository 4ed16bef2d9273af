"""`densenets analyze`, `convert` and `report` as a user meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from measured_times import given_step, no_step
from training_runs import small_recipe

import densenets
from densenets.analysis.cost import compute as cost
from densenets.analysis.memory import compute as memory
from densenets.checkpoint import save_checkpoint
from densenets.cli import main as cli
from densenets.cli.verbs import ANALYSES
from densenets.data.preprocessing import Preprocessing
from densenets.models.create import build_network
from densenets.models.registry import named_config
from densenets.profiling.measured_step import MeasuredStep
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import StepMemory
from densenets.subprocess_jobs import JobFailure
from densenets.training.loop import train
from densenets.training.recipe import changed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on real digits."""
    out = tmp_path_factory.mktemp("cli") / "digits"
    train(changed(small_recipe(epochs=1), {"model.block_layers": (2, 1, 2)}), out)
    return out


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another family."""
    path = tmp_path_factory.mktemp("cli") / "resnet.safetensors"
    config = named_config("resnet8")
    pixels = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    weights = build_network(config).state_dict()
    save_checkpoint(path, weights, config, tuple("0123456789"), pixels, {})
    return path


def fails(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The one line that a wrong command ends with."""
    assert cli.run([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    return lines[0]


def prints(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert cli.run([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def check_files(folder: Path, name: str) -> dict[str, Any]:
    """The data that an analysis wrote, beside its table and its figure."""
    for suffix in ("csv", "png", "svg"):
        assert (folder / f"{name}.{suffix}").stat().st_size > 0
    data: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    assert {"device", "torch", "date", "command"} <= data.keys()
    return data


def test_the_help_names_every_analysis(capsys: pytest.CaptureFixture[str]) -> None:
    text = prints(capsys, "analyze")
    assert text == prints(capsys, "analyze", "--help")
    for verb in ANALYSES:
        assert f"\n  {verb.name} {verb.arguments}" in text
        page = prints(capsys, "analyze", verb.name, "--help")
        assert page.startswith(f"usage: densenets analyze {verb.name} {verb.arguments} [OPTIONS]\n")
    assert "did you mean reuse" in fails(capsys, "analyze", "resue")


def test_reuse_of_a_run(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    text = prints(capsys, "analyze", "reuse", run, "--out", tmp_path)
    assert "transition 1" in text
    assert f"{tmp_path} holds reuse.json, reuse.csv, reuse.png, reuse.svg" in text
    data = check_files(tmp_path, "reuse")
    with (tmp_path / "reuse.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    weight = densenets.load(run).features.denseblock1.denselayer2.conv1.weight  # type: ignore[union-attr]
    (value,) = (
        float(row["value"]) for row in rows if (row["block"], row["source"], row["target"]) == ("1", "1", "2")
    )
    assert value == pytest.approx(float(weight.detach()[:, -4:].abs().mean()), rel=1e-6)
    assert data["blocks"][0]["values"][1][1] == pytest.approx(value)
    printed = json.loads(
        prints(capsys, "analyze", "reuse", run, "--out", tmp_path, "--json", "--normalization", "share")
    )
    assert printed["normalization"] == "share"


def test_gradients_of_two_networks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = prints(
        capsys, "analyze", "gradients", "densenet-bc-10-4", "plain-8", "--steps", "0", "1", "--out", tmp_path
    )
    assert "Xavier's weights" in text
    data = check_files(tmp_path, "gradients")
    assert [row["model"] for row in data["summary"]] == ["densenet-bc-10-4"] * 2 + ["plain-8"] * 2 + [
        "densenet-bc-10-4"
    ] * 2 + ["plain-8"] * 2
    assert "unknown model 'plain'" in fails(capsys, "analyze", "gradients", "plain")


def test_saliency_of_a_picture(
    capsys: pytest.CaptureFixture[str], run: Path, picture_folder: Path, tmp_path: Path
) -> None:
    text = prints(capsys, "analyze", "saliency", run, picture_folder / "val" / "one", "--out", tmp_path)
    assert "Grad-CAM of" in text
    data = check_files(tmp_path, "saliency")
    assert [len(image["maps"]) for image in data["images"]] == [3, 3, 3]
    line = fails(capsys, "analyze", "saliency", run, picture_folder, "--class-name", "eleven")
    assert "unknown class 'eleven'" in line


def test_efficiency_of_runs(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    text = prints(capsys, "analyze", "efficiency", run, "--out", tmp_path, "--no-measure")
    assert "digits" in text
    (row,) = check_files(tmp_path, "efficiency")["rows"]
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert row["mean_error"] == evaluation["top1_error"]
    assert "is no run's folder" in fails(capsys, "analyze", "efficiency", tmp_path)


def test_cost_of_a_densenet_beside_its_matched_resnet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measured_step", lambda step: given_step(batch=step.batch))
    text = prints(capsys, "analyze", "cost", "densenet-bc-40-12", "--input", "1x16x16", "--out", tmp_path)
    assert "preact-resnet" in text
    data = check_files(tmp_path, "cost")
    assert data["sides"] == [16, 16]
    assert [row["execution"] for row in data["rows"]] == ["reference", "fused", "reference"]
    assert "resnet20 is a ResNet; name a second" in fails(capsys, "analyze", "cost", "resnet20")
    assert "no shape" in fails(capsys, "analyze", "cost", "densenet-bc-40-12", "--input", "16")


def test_a_cost_that_failed_stays_in_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(step: StepConfig) -> MeasuredStep | JobFailure:
        return no_step("no luck") if step.execution == "fused" else given_step(batch=step.batch)

    monkeypatch.setattr(cost, "measured_step", measure)
    text = prints(capsys, "analyze", "cost", "densenet-bc-40-12", "resnet20", "--out", tmp_path)
    assert "densenet-bc-40-12, fused failed: no luck" in text
    rows = check_files(tmp_path, "cost")["rows"]
    assert [row.get("failed") for row in rows] == [None, "no luck", None]
    assert "ran" not in rows[1]
    with (tmp_path / "cost.csv").open(newline="") as file:
        assert [row["failed"] for row in csv.DictReader(file)] == ["", "no luck", ""]


def test_memory_of_a_densenet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        memory, "measured_memory", lambda step: StepMemory(in_use_bytes=1000 + 10 * step.batch)
    )
    text = prints(
        capsys, "analyze", "memory", "densenet-bc-40-12", "--out", tmp_path, "--memory", "2kB", "--batch", "8"
    )
    assert "the largest batch in 1.95 KiB is 100 (measured" in text
    data = check_files(tmp_path, "memory")
    assert [row["batch"] for row in data["by_batch"]][:3] == [2, 4, 8]
    assert "no size" in fails(capsys, "analyze", "memory", "densenet-bc-40-12", "--memory", "lots")
    assert "a ResNet; memory" in fails(capsys, "analyze", "memory", "resnet20")


def test_nothing_to_look_at_is_one_line(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert "name at least one network" in fails(capsys, "analyze", "cost")
    assert "name at least one run's folder" in fails(capsys, "analyze", "efficiency")
    assert "name at least one picture" in fails(capsys, "analyze", "saliency", run)
    assert "models must be at least one name, each once, got ''" in fails(capsys, "analyze", "gradients")
    assert "missing: a name of the zoo" in fails(capsys, "analyze", "memory")


def test_another_familys_checkpoint_is_one_line(
    capsys: pytest.CaptureFixture[str], resnet: Path, picture_folder: Path, tmp_path: Path
) -> None:
    assert "the network is a ResNet; feature reuse" in fails(capsys, "analyze", "reuse", resnet)
    line = fails(capsys, "analyze", "saliency", resnet, picture_folder)
    assert "the network is a ResNet; Grad-CAM" in line
    assert "is a checkpoint of densenets already" in fails(
        capsys, "convert", resnet, "--out", tmp_path / "x.safetensors"
    )


def test_a_report_of_a_run_lies_in_its_folder(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    text = prints(capsys, "report", run, "--no-measure", "--mistakes", "3")
    assert text.startswith(f"{run / 'report.html'} (1.")
    page = (run / "report.html").read_text()
    assert page.count('<li><img src="data:image/png') == 3


def test_a_report_of_another_family_and_of_nothing(
    capsys: pytest.CaptureFixture[str], resnet: Path, tmp_path: Path
) -> None:
    prints(capsys, "report", resnet, "--no-measure", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "A ResNet has no dense blocks" in page
    assert "does not say what it was trained on" in page
    assert "there is no run or checkpoint" in fails(capsys, "report", tmp_path / "nothing")
    assert "mistakes must be at least 0, got -1" in fails(capsys, "report", resnet, "--mistakes", "-1")


def test_foreign_weights_become_a_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = densenets.create_model("densenet-bc-22-12")
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    text = prints(
        capsys,
        "convert",
        tmp_path / "theirs.pth",
        "--out",
        tmp_path / "ours.safetensors",
        "--data",
        "cifar10",
    )
    assert "128 of 128 keys of torchvision are taken over" in text
    assert "depth 22" in text
    restored = densenets.load(tmp_path / "ours.safetensors").state_dict()
    assert all(torch.equal(value, restored[key]) for key, value in model.state_dict().items())
    assert "convert needs --out" in fails(capsys, "convert", tmp_path / "theirs.pth")
    assert "give --mean and --std" in fails(
        capsys, "convert", tmp_path / "theirs.pth", "--out", tmp_path / "x.safetensors"
    )
