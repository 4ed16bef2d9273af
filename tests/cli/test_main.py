"""The command line as a user meets it: help, output, and one clear line for each wrong input."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from training_runs import small_recipe

import densenets
from densenets.cli import catalog, verbs
from densenets.cli import main as cli
from densenets.cli.verbs import VERBS
from densenets.training.loop import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "digits"
    return out, train(small_recipe(epochs=1), out)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of coloured noise, 40 x 30 pixels, for training and validation."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(("dark", "light")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 128, (30, 40, 3), dtype=np.uint8) + 127 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


def fails(capsys, *arguments: str) -> str:
    """The one line that a wrong command ends with."""
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("densenets: ")
    return lines[0]


def prints(capsys, *arguments: str) -> str:
    assert cli.run(arguments) == 0
    return capsys.readouterr().out


def test_help_names_every_verb(capsys):
    text = prints(capsys, "--help")
    assert all(f"\n  {verb.name} {verb.arguments}" in text for verb in VERBS.values())


def test_the_package_and_its_help_load_nothing_heavy():
    code = (
        "import sys, densenets, densenets.cli.main; densenets.cli.main.run(['--help']);"
        "print([m for m in ('torch', 'numpy', 'tyro', 'rich', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_of_no_verb_loads_pytorch():
    # Nor does a wrong option, which is told before the work begins.
    code = """if True:
        import sys
        from densenets.cli import main, verbs
        for words, _ in verbs.commands():
            main.run([*words, "--help"])
            assert "torch" not in sys.modules, words
            assert "matplotlib" not in sys.modules, words
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_dash_m_runs_the_same_program(capsys):
    done = subprocess.run(
        [sys.executable, "-m", "densenets", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == prints(capsys, "--version")


def test_the_worked_example_is_one_command(capsys):
    text = prints(
        capsys, "summary", "dense-block", "--layers", "5", "--growth-rate", "4", "--input", "1x32x32"
    )
    assert "the layers read 1, 5, 9, 13, 17 and the transition reads 21; 15 connections" in text


def test_summary_as_json_agrees_with_the_paper(capsys):
    facts = json.loads(prints(capsys, "summary", "densenet121", "--json"))
    assert facts["totals"]["parameters"] == 7_978_856
    assert facts["input"] == [3, 224, 224]


def test_summary_of_a_volume_network(capsys):
    facts = json.loads(prints(capsys, "summary", "densenet121", "--input", "1x64x64x64", "--json"))
    # MONAI's three-dimensional DenseNet-121 of one channel and 1000 classes has the same count.
    assert facts["layers"][0]["parameters"] == 7**3 * 64 + 2 * 64


def test_summary_of_a_trained_run(capsys, finished):
    facts = json.loads(prints(capsys, "summary", str(finished[0]), "--input", "1x8x8", "--json"))
    assert facts["layers"][-1]["adds"] == 10


def test_lists_name_every_network_and_recipe(capsys):
    networks = json.loads(prints(capsys, "models", "--json"))
    assert {"densenet121", "densenet-bc-190-40"} <= {row["name"] for row in networks}
    assert "densenet121" in prints(capsys, "models")
    recipes = json.loads(prints(capsys, "recipes", "--json"))
    assert {"digits", "cifar10-quick", "svhn-densenet-40-12"} <= {row["name"] for row in recipes}
    assert "imagenet-densenet264-48" in prints(capsys, "recipes")


def test_recipe_help_shows_its_own_defaults(capsys):
    text = prints(capsys, "train", "svhn-densenet-40-12", "--help")
    assert "(default: 6000" in text
    assert "--recipe" not in text


def test_evaluate_a_run_finds_its_own_data(capsys, finished):
    out, result = finished
    facts = json.loads(prints(capsys, "evaluate", str(out), "--json"))
    assert facts["confusion"] == result["confusion"]
    assert facts["top1_error"] == result["top1_error"]


def test_evaluate_prints_a_table_and_writes_files(capsys, finished, tmp_path):
    text = prints(
        capsys, "evaluate", str(finished[0] / "checkpoints/last.safetensors"), "--out", str(tmp_path)
    )
    assert "top-1 error" in text
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation.json", "confusion.png", "confusion.svg"}


def test_predict_gives_a_row_a_picture(capsys, finished, pictures):
    text = prints(capsys, "predict", str(finished[0]), str(pictures / "val"), "--top", "2")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 6
    assert list(rows[0]) == ["path", "class1", "probability1", "class2", "probability2"]
    assert float(rows[0]["probability1"]) >= float(rows[0]["probability2"])


def test_predict_as_json_into_a_file(capsys, finished, pictures, tmp_path):
    out = tmp_path / "rows.json"
    files = [str(pictures / "val/dark/1.png"), str(pictures / "val/light/0.png")]
    assert prints(capsys, "predict", str(finished[0]), *files, "--format", "json", "--out", str(out)) == ""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == files
    assert sum(guess["probability"] for guess in rows[0]["predictions"]) <= 1.00001


@pytest.mark.slow
def test_finetune_from_torchvision_weights_then_use_the_result(capsys, pictures, tmp_path):
    weights = tmp_path / "imagenet.pth"
    torch.save(torchvision.models.densenet121().state_dict(), weights)
    out = tmp_path / "run"
    prints(
        capsys, "train", "finetune", "--model.weights", str(weights), "--data.root", str(pictures),
        "--data.image-size", "32", "--data.workers", "1", "--training.epochs", "1",
        "--training.batch-size", "8", "--training.no-tensorboard", "--out", str(out),
    )  # fmt: skip
    result = json.loads((out / "evaluation.json").read_text())
    assert result["images"] == 6
    assert [row["class"] for row in result["per_class"]] == ["dark", "light"]
    for crops in ("1", "10"):
        arguments = ("evaluate", str(out), "--data", str(pictures), "--crops", crops, "--json")
        facts = json.loads(prints(capsys, *arguments))
        assert facts["images"] == 6
    assert facts["crops"] == 10


def test_weights_that_cannot_be_used_are_named(capsys, pictures, tmp_path):
    arguments = ("train", "finetune", "--data.root", str(pictures), "--out", str(tmp_path / "run"))
    missing = str(tmp_path / "missing.pth")
    assert f"there is no weights file {missing}" in fails(capsys, *arguments, "--model.weights", missing)
    other = tmp_path / "other.pth"
    torch.save(densenets.create_model("resnet20").state_dict(), other)
    assert "holds no whole DenseNet" in fails(capsys, *arguments, "--model.weights", str(other))
    assert not (tmp_path / "run").exists()


def broken_picture(folder: Path) -> Path:
    path = folder / "train" / "dark" / "broken.png"
    path.write_bytes((folder / "train" / "dark" / "0.png").read_bytes()[:200])
    return path


def test_broken_pictures_are_named_and_skipped_only_when_asked(capsys, pictures, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    path = broken_picture(root)
    arguments = (
        "train", "finetune", "--model.name", "densenet-bc-10-4", "--data.root", str(root),
        "--data.image-size", "16", "--training.epochs", "1", "--training.no-tensorboard",
        "--training.batch-size", "8", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert cli.run(arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"densenets: broken image {path}:")
    assert "--data.skip-broken" in last
    assert cli.run([*arguments, "--resume", "--data.skip-broken"]) == 0
    assert f"skipped: broken image {path}" in capsys.readouterr().err


WRONG = {
    "trian digits": "unknown verb 'trian'; did you mean train?",
    "train digit": "unknown recipe 'digit'; did you mean digits?",
    "train cifar10-densenet-bc-101-12": "depth must be 6n+4 with bottleneck, such as 100 or 106, got 101",
    "train digits --model.name densenet122": "unknown model 'densenet122'; did you mean densenet121",
    "train digits --model.name densenet-40-0": "growth_rate must be at least 1, got 0",
    "train digits --model.name densenet121": "input 1x8x8 is too small for this network; at least 29x29",
    "train digits --data.name cifra10": "unknown data set 'cifra10'; did you mean cifar10",
    "train digits --data.roots x": "unknown option '--data.roots'; did you mean --data.root?",
    "train digits --training.epochs ten": "--training.epochs must be an integer, got 'ten'",
    "train digits --training.epochs 0": "epochs must be at least 1, got 0",
    "train digits --model.execution fast": (
        "--model.execution must be auto, reference, recompute, fused or fused-lean, got 'fast'"
    ),
    "train digits --optimizer.learning-rate 0": "learning_rate must be above 0, got 0.0",
    "train digits --data.held-out 2000": "held_out 2000 leaves nothing to train on; there are 1437 images",
    "train digits --training.device gpu": "device 'gpu' cannot be used",
    "train cifar10-quick --data.root nowhere": "cifar10 is not in nowhere, or is damaged; put it there",
    "train finetune --data.root nowhere": "there is no folder nowhere; name one by --data.root",
    "train finetune --data.root .": "holds no class folders; each class needs a folder with its images",
    "summary densenet-bc-100": "unknown model 'densenet-bc-100'; did you mean densenet-bc-190-40",
    "summary densenet-100-0": "growth_rate must be at least 1, got 0",
    "summary densenet121 --input 3x28x28": "input 3x28x28 is too small for this network; at least 29x29",
    "summary densenet121 --input 3x": "--input 3x is no shape",
    "summary dense-block --layers 0": "block_layers must be at least 1 in every block",
    "evaluate nowhere": "there is no run or checkpoint nowhere",
    "train digits --epochs 3": "unknown option '--epochs'; did you mean --training.epochs?",
    "train digits --training.precision bfloat1": "got 'bfloat1'; did you mean bfloat16?",
    "train digits --schedule.milestones 0.5 last": "--schedule.milestones must be a number, got 'last'",
    "train digits --data.augmentation mirror --data.augmentation=crp": "got 'crp'; did you mean crop?",
    "models all": "unexpected argument: all",
    "--versoin": "unknown option '--versoin'; did you mean --version?",
    "benchmark densenet121 --colour blue": "unknown option '--colour'; densenets benchmark --help lists",
    "predict": "missing: a run's folder, a checkpoint file, or an exported file (.onnx, .xml, .pt2);",
    "predict nowhere": "name at least one picture, or a folder of pictures, behind the run",
    "predict nowhere a.png": "there is no run or checkpoint nowhere",
    "embed nowhere": "name at least one picture, or a folder of pictures, behind the checkpoint",
    "embed nowhere a.png": "there is no run or checkpoint nowhere",
    "embed nowhere a.png --out table.csv": "--out must end in .npz or .parquet, got table.csv",
    "embed network.onnx a.png": "network.onnx gives logits only, no features; load the checkpoint",
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.items(), ids=WRONG.keys())
def test_wrong_input_gets_one_line_and_writes_nothing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_wrong_checkpoints_are_told_apart(capsys, finished, tmp_path):
    checkpoint = finished[0] / "checkpoints" / "last.safetensors"
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(checkpoint.read_bytes()[:-100])
    assert "not a whole safetensors file" in fails(capsys, "evaluate", str(truncated))
    foreign = tmp_path / "foreign.safetensors"
    save_file(torchvision.models.densenet121().state_dict(), foreign)
    assert "was not written by densenets" in fails(capsys, "evaluate", str(foreign))
    assert "has no recipe.json" in fails(capsys, "evaluate", str(tmp_path))


def test_wrong_pictures_and_folders_are_named(capsys, finished, tmp_path):
    run = str(finished[0])
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    said = fails(capsys, "predict", run, str(text))
    assert f"broken image {text}" in said
    assert said.endswith("; --skip-broken leaves such pictures out")
    assert "there is no file or folder" in fails(capsys, "predict", run, str(tmp_path / "none.png"))
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails(capsys, "predict", run, str(tmp_path / "empty"))
    (tmp_path / "classes" / "seven").mkdir(parents=True)
    assert "unknown class in" in fails(capsys, "evaluate", run, "--data", str(tmp_path / "classes"))
    (tmp_path / "digits" / "7").mkdir(parents=True)
    assert "no images in class 7" in fails(capsys, "evaluate", run, "--data", str(tmp_path / "digits"))
    assert "10 crops are for image folders" in fails(capsys, "evaluate", run, "--crops", "10")


def test_a_run_that_still_trains_is_told_apart(capsys, finished, pictures, tmp_path):
    unfinished = tmp_path / "run"
    shutil.copytree(finished[0], unfinished, ignore=shutil.ignore_patterns("evaluation.json"))
    told = f"{unfinished} has not come to its end; its checkpoint is that after epoch 1\n"
    picture = str(next((pictures / "val").rglob("*.png")))
    page = tmp_path / "page.html"
    commands = (
        ["predict", str(unfinished), picture],
        ["evaluate", str(unfinished)],
        ["report", str(unfinished), "--no-measure", "--mistakes", "0", "--out", str(page)],
    )
    for arguments in commands:
        assert cli.run(arguments) == 0
        assert capsys.readouterr().err == told
    assert f"An unfinished run of densenet-bc-10-4: {unfinished}" in page.read_text()
    for arguments in commands:
        assert cli.run([arguments[0], str(finished[0]), *arguments[2:]]) == 0
        assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_stack_trace(monkeypatch):
    def bug(options):
        raise ValueError("a bug of ours")

    monkeypatch.setattr(catalog, "MODELS", dataclasses.replace(catalog.MODELS, call=bug))
    with pytest.raises(ValueError, match="a bug of ours"):
        cli.run(["models"])


ODD_NAMES = (b"caf\xe9.png", '猫, "q" [red].png'.encode(), b"new\nline.png", b"-x.png", b"\xff\xfe")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_of_any_bytes_are_told_in_any_encoding(finished, pictures, tmp_path, monkeypatch, encoding):
    picture = next((pictures / "val").rglob("*.png")).read_bytes()
    paths = [tmp_path / os.fsdecode(name) for name in ODD_NAMES]
    for path in paths:
        path.write_bytes(picture)
    (tmp_path / "broken\n.png").write_bytes(b"")
    named = [str(path) for path in (*paths, tmp_path / "broken\n.png")]

    def predictions(*more: str) -> tuple[str, str]:
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
        with monkeypatch.context() as changed:
            for name, stream in streams.items():
                changed.setattr(sys, name, stream)
            changed.setattr(sys, "argv", ["densenets", "predict", str(finished[0]), *named, *more])
            with pytest.raises(SystemExit) as end:
                cli.main()
        assert end.value.code == 0
        for stream in streams.values():
            stream.flush()
        return tuple(stream.buffer.getvalue().decode(encoding) for stream in streams.values())

    out, said = predictions("--skip-broken", "--format", "json")
    assert [json.loads(line)["path"] for line in out.splitlines()] == list(map(str, paths))
    assert said.startswith("skipped: broken image ")
    assert said.count("\n") == 1
    out, _ = predictions("--skip-broken")
    rows = list(csv.DictReader(io.StringIO(out)))
    shown = [str(path).encode(encoding, "backslashreplace").decode() for path in paths]
    assert [row["path"] for row in rows] == shown
    predictions("--skip-broken", "--out", str(tmp_path / "deep" / "er" / "rows.csv"))
    assert "caf\\udce9.png" in (tmp_path / "deep" / "er" / "rows.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_help_fits_a_narrow_terminal_and_has_no_colours(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    for words in ([], ["--help"], ["analyze"], *(words for words, _ in verbs.commands())):
        text = prints(capsys, *words, *(["--help"] if words and words != ["--help"] else []))
        assert "\x1b" not in text
        # A name with its placeholder is not broken.
        long = [line for line in text.splitlines() if len(line) > width and not line.startswith("  ")]
        assert long == []


def test_a_misspelled_run_gets_the_nearest(capsys, finished):
    folder = finished[0]
    line = fails(capsys, "evaluate", str(folder.parent / "digist"))
    assert line.endswith(f"did you mean {folder}?")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("words", [["--help"], ["models"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "densenets", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "densenets: the disk is full: the output could not be written\n"
