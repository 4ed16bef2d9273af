"""The command line where no extra is installed: what it does, what it says, what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from poorer_python import Done, run_commands, write_pictures
from training_runs import small_recipe

import densenets
from densenets.cli.verbs import ANALYSES, VERBS, commands
from densenets.extras import PACKAGES
from densenets.training.loop import train
from densenets.training.recipe import changed

pytestmark = pytest.mark.slow

_SMALL = "densenet-bc-10-4"
_TRAIN = (
    *("train", "finetune", "--model.name", _SMALL, "--data.root", "pictures", "--data.image-size", "16"),
    *("--data.workers", "0", "--training.epochs", "1", "--training.batch-size", "4", "--out", "run"),
)
_NO_PLOTS = 'matplotlib is not installed; pip install "densenets[plots]" brings it'

# What a command says that cannot do without an extra.
_NEEDS: dict[tuple[str, ...], str] = {
    ("train", "digits"): "the data set digits needs scikit-learn",
    ("evaluate", "digits", "--out", "evaluated"): "the data set digits needs scikit-learn",
    ("report", "run"): "report needs bokeh and matplotlib",
    ("draw", _SMALL): "draw needs matplotlib",
    ("export", "run"): "export --to onnx needs onnx, onnxruntime and onnxscript",
    ("embed", "run", "pictures", "--out", "table.parquet"): "embed --out table.parquet needs pyarrow",
    ("analyze", "gradients", _SMALL): "the data set digits needs scikit-learn",
    ("analyze", "saliency", "run", "pictures"): "analyze saliency needs torchcam and matplotlib",
}
# What a command leaves out, and files that it writes all the same.
_GOES_ON: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    _TRAIN: ("confusion.png and curves.png", ("run/checkpoints/last.safetensors", "run/evaluation.json")),
    ("evaluate", "run", "--out", "evaluated"): ("confusion.png", ("evaluated/evaluation.json",)),
    ("analyze", "reuse", "run"): ("reuse.png and reuse.svg", ("analysis/reuse.json",)),
    ("analyze", "memory", _SMALL, "--batch", "2"): ("memory.png and memory.svg", ("analysis/memory.json",)),
    ("analyze", "cost", _SMALL, "resnet8", "--input", "3x16x16"): (
        "cost.png and cost.svg",
        ("analysis/cost.json",),
    ),
    ("analyze", "efficiency", "run", "--no-measure"): (
        "efficiency.png and efficiency.svg",
        ("analysis/efficiency.json",),
    ),
    ("reproduce", "fig4", "--plan"): ("figure.png and figure.svg", ()),
}
# What a command prints that needs no extra.
_WORKS: dict[tuple[str, ...], str] = {
    ("predict", "run", "pictures/val/one"): "class1",
    ("embed", "run", "pictures/val/one"): "embeddings.npz: ",
    ("convert", "theirs.pth", "--out", "ours.safetensors", "--data", "cifar10"): "torchvision",
    ("summary", _SMALL): "classifier",
    ("benchmark", _SMALL, "--batch", "2", "--variants", "reference"): "reference",
    ("recipes",): "cifar10-quick",
    ("models",): "densenet121",
    ("weights",): "torchvision/densenet121",
    ("completion", "bash"): "complete -F",
    ("doctor",): 'matplotlib not installed; pip install "densenets[plots]"',
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Done]:
    """What came of the commands, which run in this order in one folder, and of every verb's --help."""
    folder = tmp_path_factory.mktemp("base")
    write_pictures(folder / "pictures")
    train(changed(small_recipe(epochs=1, tensorboard=False), {"data.training_images": 64}), folder / "digits")
    torch.save(densenets.create_model("densenet-bc-22-12").state_dict(), folder / "theirs.pth")
    helps = [(*words, "--help") for words, _ in commands()]
    asked = [*_GOES_ON, *_WORKS, *_NEEDS, *helps]
    return dict(zip(asked, run_commands("extras", asked, folder), strict=True))


def test_every_verb_is_asked() -> None:
    asked = {words[:2] if words[0] == "analyze" else words[:1] for words in (*_NEEDS, *_GOES_ON, *_WORKS)}
    assert asked == {(name,) for name in VERBS if name != "analyze"} | {
        ("analyze", verb.name) for verb in ANALYSES
    }
    figures = {"plots", "report", "tensorboard", "saliency", "digits"}
    files = {"keras", "onnx", "openvino", "int8", "parquet", "hub"}  # or one more here
    assert PACKAGES.keys() == figures | files


@pytest.mark.parametrize("words", _NEEDS, ids=" ".join)
def test_what_is_needed_is_said_before_any_work(
    done: dict[tuple[str, ...], Done], words: tuple[str, ...]
) -> None:
    result = done[words]
    assert result.code == 2
    assert result.stdout == ""
    assert result.written == ()
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"densenets: {_NEEDS[words]}, which ")
    assert 'pip install "densenets[' in line


@pytest.mark.parametrize("words", _GOES_ON, ids=lambda words: " ".join(words[:2]))
def test_what_can_go_on_without_figures_does(
    done: dict[tuple[str, ...], Done], words: tuple[str, ...]
) -> None:
    result, (left_out, files) = done[words], _GOES_ON[words]
    assert result.code == 0, result.stderr
    assert f"no {left_out}: {_NO_PLOTS}\n" in result.stderr
    assert result.stderr.count(_NO_PLOTS) == 1
    assert set(files) <= set(result.written)
    assert not [name for name in result.written if name.endswith((".png", ".svg")) or "tensorboard" in name]
    # Nor does it say that there were any.
    assert ".png" not in result.stdout


def test_training_goes_on_without_tensorboard(done: dict[tuple[str, ...], Done]) -> None:
    assert (
        "no TensorBoard curves: tensorboard is not installed; "
        'pip install "densenets[tensorboard]" brings it\n' in done[_TRAIN].stderr
    )


@pytest.mark.parametrize("words", _WORKS, ids=lambda words: words[0])
def test_what_needs_no_extra_works(done: dict[tuple[str, ...], Done], words: tuple[str, ...]) -> None:
    result = done[words]
    assert result.code == 0, result.stderr
    assert _WORKS[words] in result.stdout
    assert "not installed" not in result.stderr


def test_every_help_page_is_shown(done: dict[tuple[str, ...], Done]) -> None:
    for words, _ in commands():
        result = done[(*words, "--help")]
        assert result.code == 0, result.stderr
        assert result.stdout.startswith(f"usage: densenets {' '.join(words)}")
        assert result.stderr == ""
