from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from densenets.checkpoint import save_checkpoint
from densenets.cli import main as cli
from densenets.data.preprocessing import Preprocessing
from densenets.errors import NotFinite
from densenets.finite import check_weights
from densenets.models.network import Network
from densenets.weights.pretrained import create_model

CLASSES = ("one", "two", "zero")
WRONG = [
    ("features.norm5.bias", math.nan),
    ("features.conv0.weight", math.inf),
    ("features.norm5.running_mean", math.nan),
    ("features.norm5.running_var", math.inf),
    ("classifier.weight", -math.inf),
]


def network() -> Network:
    generator = torch.Generator().manual_seed(0)
    return create_model("densenet-bc-10-4", num_classes=3, generator=generator)


def saved(path: Path, model: Network) -> str:
    preprocessing = Preprocessing(channels=3, image_size=16, resize=16, mean=(0.5,) * 3, std=(0.3,) * 3)
    save_checkpoint(path, model.state_dict(), model.config, CLASSES, preprocessing, {})
    return str(path)


@pytest.fixture
def overflowing(tmp_path: Path) -> str:
    """Weights that are numbers, with logits that are not."""
    model = network()
    with torch.no_grad():
        model.get_parameter("features.norm5.bias").fill_(1e30)
        model.get_parameter("classifier.weight").fill_(1e30)
    return saved(tmp_path / "net.safetensors", model)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_weight_or_statistic_that_is_no_number_is_named(name: str, value: float) -> None:
    model = network()
    check_weights(model)
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(NotFinite, match=rf"1 of \d+ numbers of {name} are NaN or infinite"):
        check_weights(model)


def verbs(checkpoint: str, pictures: Path) -> list[list[str]]:
    data = ["--data", str(pictures / "val")]
    return [
        ["predict", checkpoint, str(pictures / "val")],
        ["predict", checkpoint, str(pictures / "val"), "--skip-broken", "--format", "json"],
        ["evaluate", checkpoint, *data, "--workers", "0", "--json"],
        ["evaluate", checkpoint, *data, "--workers", "0", "--precision", "bfloat16"],
        ["report", checkpoint, *data, "--workers", "0", "--no-measure"],
    ]


def tells(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_every_verb_tells_broken_weights_in_one_line(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = network()
    model.state_dict()["features.norm5.running_var"][1] = math.nan
    for arguments in verbs(saved(tmp_path / "net.safetensors", model), picture_folder):
        assert "numbers of features.norm5.running_var are NaN" in tells(capsys, arguments)


def test_every_verb_tells_logits_that_overflow_in_one_line(
    picture_folder: Path, overflowing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in verbs(overflowing, picture_folder):
        assert "no finite logits" in tells(capsys, arguments)


def test_the_picture_without_finite_logits_is_named(
    overflowing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "odd\nname.png")
    assert r"odd\nname.png no finite logits" in tells(
        capsys, ["predict", overflowing, str(tmp_path / "odd\nname.png")]
    )
