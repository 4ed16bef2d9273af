import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torchvision
from foreign_weights import RENAMES, SMALL, Port, Weights, old_key, randomized, renamed, small_network
from safetensors.torch import save_file
from torch import Tensor, nn

from densenets.checkpoint import read_checkpoint, save_checkpoint
from densenets.cli.main import run
from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet_config import Stem
from densenets.models.registry import named_config
from densenets.weights.conventions import Normalization
from densenets.weights.conversion import Adaptation, Conversion, convert
from densenets.weights.reading import read_file, read_network

PORTS = {
    "torchvision": "torchvision",
    "torchvision-old": "torchvision's older files",
    "dice": "andreasveit/densenet-pytorch",
}
NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


WEIGHTS_HERE = dict(small_network().state_dict())


def convert_weights(folder: Path, weights: Weights, **options: Any) -> Conversion:
    torch.save(weights, folder / "theirs.pth")
    options = {"normalization": NORMALIZATION, **options}
    return convert(folder / "theirs.pth", folder / "ours.safetensors", **options)


def refusal(folder: Path, weights: Weights, **options: Any) -> str:
    """The one line that says why the weights cannot be converted; nothing was written."""
    with pytest.raises(InputError) as error:
        convert_weights(folder, weights, **options)
    assert not (folder / "ours.safetensors").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


# The same network


@pytest.mark.parametrize("form", RENAMES)
@pytest.mark.parametrize("bottleneck", [True, False])
@pytest.mark.parametrize("suffix", ["pth.tar", "safetensors"])
def test_the_converted_network_gives_the_same_logits_bit_for_bit(
    tmp_path: Path, form: str, bottleneck: bool, suffix: str
):
    model = small_network(dataclasses.replace(SMALL, bottleneck=bottleneck))
    theirs = renamed(model.state_dict(), form, prefix="module.")
    source = tmp_path / f"theirs.{suffix}"
    if suffix == "safetensors":
        save_file(theirs, source)
    else:
        torch.save({"epoch": 100, "state_dict": theirs, "optimizer": {"lr": 0.1}}, source)

    conversion = convert(
        source, tmp_path / "made" / "ours.safetensors", data="cifar10", normalization=NORMALIZATION
    )

    assert conversion.form == PORTS[form]
    assert conversion.config == model.config
    assert sorted(conversion.keys) == sorted(theirs)
    assert set(conversion.keys.values()) == set(model.state_dict())
    assert conversion.counters_added == ()
    loaded = read_checkpoint(conversion.checkpoint)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(logits(loaded.model, x), logits(model, x))


@pytest.mark.parametrize("bottleneck", [True, False])
def test_a_network_that_computes_as_the_port_does_gives_our_logits(tmp_path: Path, bottleneck: bool):
    port = randomized(Port(3, 5, bottleneck))
    conversion = convert_weights(tmp_path, port.state_dict(), data="cifar10")
    assert conversion.config.block_layers == (3, 3, 3)
    assert conversion.config.bottleneck == bottleneck
    ours = read_checkpoint(conversion.checkpoint).model.double()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(logits(ours, x), logits(port.double(), x))


@pytest.mark.parametrize("rename", [str, old_key], ids=["torchvision", "torchvision-old"])
def test_torchvisions_network_gives_its_logits(tmp_path: Path, rename: Callable[[str], str]):
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121().eval()
    weights = {rename(key): value for key, value in theirs.state_dict().items()}
    conversion = convert_weights(tmp_path, weights, data="imagenet", normalization=None)
    assert conversion.config == named_config("densenet121")
    assert conversion.preprocessing == imagenet_preprocessing(3, 224, scale_only=False)
    assert len(conversion.keys) == len(theirs.state_dict())
    loaded = read_checkpoint(conversion.checkpoint)
    assert loaded.classes[281] == "tabby"
    x = torch.randn(1, 3, 65, 65)
    torch.testing.assert_close(logits(loaded.model, x), logits(theirs, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", RENAMES)
def test_finetuning_reads_every_form(tmp_path: Path, form: str):
    model = small_network()
    torch.save(renamed(model.state_dict(), form), tmp_path / "theirs.pth")
    found = read_network(tmp_path / "theirs.pth", named_config("densenet121"), dropout=0.1)
    assert found.config == dataclasses.replace(SMALL, dropout=0.1)
    assert all(torch.equal(found.weights[key], value) for key, value in model.state_dict().items())


def test_the_checkpoint_can_be_evaluated(
    tmp_path: Path, tiny_cifar10: Any, capsys: pytest.CaptureFixture[str]
):
    weights, names = renamed(small_network().state_dict(), "dice"), tuple(f"class {n}" for n in range(10))
    conversion = convert_weights(tmp_path, weights, data="cifar10", classes=names)
    arguments = ["--data", "cifar10", "--root", str(tiny_cifar10.root), "--json"]
    assert run(["evaluate", str(conversion.checkpoint), *arguments]) == 0
    facts = json.loads(capsys.readouterr().out)
    # Worked out from the pixels by themselves.
    mean, std = torch.tensor(NORMALIZATION.mean).view(3, 1, 1), torch.tensor(NORMALIZATION.std).view(3, 1, 1)
    x = (torch.from_numpy(tiny_cifar10.pixels[20:]).float() / 255 - mean) / std
    wrong = (logits(small_network(), x).argmax(1) != torch.from_numpy(tiny_cifar10.labels[20:])).sum()
    assert facts["images"] == 6
    assert facts["top1_error"] == pytest.approx(100 * int(wrong) / 6)


# Every key is accounted for


@pytest.mark.parametrize(
    ("form", "stem"),
    [
        ("dice", "cifar"),
        *((form, stem) for form in ("torchvision", "torchvision-old") for stem in get_args(Stem)),
    ],
)
@pytest.mark.slow
def test_any_key_that_is_missing_is_noticed(tmp_path: Path, form: str, stem: str):
    theirs = renamed(small_network(dataclasses.replace(SMALL, stem=stem)).state_dict(), form)
    for key, value in theirs.items():
        kept = {other: kept_value for other, kept_value in theirs.items() if other != key}
        if key in ("fc.bias", "classifier.bias"):  # there are linear layers without one
            assert f"{key} is not there" in " ".join(convert_weights(tmp_path, kept).notes)
            (tmp_path / "ours.safetensors").unlink()
            continue
        text = refusal(tmp_path, kept)
        if value.dim() < 2:  # the rest of its norm is there, and says what it lacks
            assert f"{key} is missing" in text or f"{key}, which other norms have, is missing" in text
        else:
            assert any(other in text for other in kept), text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["block1.layer.0.convShortcut.weight"], r"block1\.layer\.0\.convShortcut\.weight is left over"),
        (["head.weight", "head.bias"], r"head\.weight \(and 1 more\) is left over"),
        (["block4.layer.0.bn3.bias"], r"block4\.layer\.0\.bn3\.bias has no weight beside it"),
        (["bn1.momentum"], r"bn1\.momentum is left over: no layer of a DenseNet has it; keep its own alone"),
        (["module.fc.bias"], r"module\.fc\.bias has no weight beside it"),
    ],
)
def test_a_key_too_many_is_named(tmp_path: Path, keys: list[str], message: str):
    theirs = renamed(small_network().state_dict(), "dice") | {key: torch.zeros(10) for key in keys}
    assert re.search(message, refusal(tmp_path, theirs))


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("block1.layer.1.conv2.weight", (4, 16, 1, 1), "is 4x16x1x1, where 4 maps by 3x3 pixels would fit"),
        ("block2.layer.0.bn1.running_var", (7,), "is 7, where 8 would fit"),
        ("fc.bias", (9,), "is 9, where 10 would fit"),
        ("bn1.num_batches_tracked", (1,), "is 1, where () would fit"),
        ("conv1.weight", (0, 3, 3, 3), "is 0x3x3x3, which no layer has"),
        ("trans2.conv1.weight", (7, 12, 1, 1), "makes 7 of them"),
        ("block1.layer.0.conv1.weight", (15, 8, 1, 1), "is 15x8x1x1, where 16 maps by 1x1 pixels would fit"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_weight_of_another_shape_is_named(
    tmp_path: Path, prefix: str, key: str, shape: tuple[int, ...], message: str
):
    theirs = renamed(small_network().state_dict(), "dice", prefix)
    theirs[prefix + key] = torch.zeros(shape, dtype=theirs[prefix + key].dtype)
    text = refusal(tmp_path, theirs)
    assert key in text
    assert message in text


@pytest.mark.parametrize("key", ["conv1.weight", "block1.layer.0.conv2.weight", "fc.weight"])
def test_a_weight_that_the_others_contradict_is_never_taken(tmp_path: Path, key: str):
    theirs = renamed(small_network().state_dict(), "dice")
    theirs[key] = torch.zeros(3, *theirs[key].shape[1:])
    # Which of two is wrong cannot be told; the first that does not fit the rest is named.
    text = refusal(tmp_path, theirs)
    assert re.search(r"would fit|come from the layers before it|fits no convolution", text)


@pytest.mark.parametrize("form", RENAMES)
def test_files_older_than_the_norms_counters_are_taken(tmp_path: Path, form: str):
    model = small_network()
    theirs = renamed(model.state_dict(), form)
    counters = [key for key in theirs if key.endswith("num_batches_tracked")]
    conversion = convert_weights(tmp_path, {key: theirs[key] for key in theirs if key not in counters})
    assert sorted(map(RENAMES[form], conversion.counters_added)) == sorted(counters)
    assert f"{len(counters)} counters that they lack begin at 0" in conversion.lines[0]
    for key, value in read_checkpoint(conversion.checkpoint).model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key] * (key not in conversion.counters_added)), key


def test_what_tools_leave_behind_is_told_and_left_out(tmp_path: Path):
    theirs = small_network().state_dict()
    extras = {"n_averaged": torch.tensor(5), "features.conv0.total_ops": torch.zeros(1)}
    conversion = convert_weights(tmp_path, theirs | extras)
    assert [key for key, ours in conversion.keys.items() if ours is None] == list(extras)
    assert "not taken over: 2, such as n_averaged, left by a tool" in conversion.lines
    assert list(read_checkpoint(conversion.checkpoint).details["source"]["not_taken_over"]) == list(extras)


# Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_numbers_keep_their_values(tmp_path: Path, dtype: torch.dtype):
    half = small_network().to(dtype)
    conversion = convert_weights(tmp_path, half.state_dict())
    loaded = read_checkpoint(conversion.checkpoint).model
    for key, value in half.state_dict().items():
        assert torch.equal(loaded.state_dict()[key].to(value.dtype), value)
    assert loaded.classifier.weight.dtype == torch.float32


def test_numbers_that_would_be_rounded_are_refused(tmp_path: Path):
    text = refusal(tmp_path, small_network().double().state_dict())
    assert re.search(r"features\.conv0\.weight is float64, which float32 does not hold exactly", text)


def test_tensors_that_share_their_memory_are_written_one_by_one(tmp_path: Path):
    weights = small_network().state_dict()
    counter, norm = torch.tensor(7), torch.rand(10).expand(3, 10)
    for key, value in weights.items():
        weights[key] = counter if value.dim() == 0 else value
    weights["classifier.bias"] = norm[1]
    conversion = convert_weights(tmp_path, weights)
    loaded = read_checkpoint(conversion.checkpoint).model.state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)


# Files that are not converted


def test_our_own_checkpoints_are_refused(tmp_path: Path):
    preprocessing = Preprocessing(channels=3, image_size=32, resize=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    for name in ("resnet20", "densenet-40-12"):
        config = named_config(name)
        weights = build_network(config).state_dict()
        save_checkpoint(tmp_path / "own.safetensors", weights, config, tuple("0123456789"), preprocessing, {})
        with pytest.raises(InputError, match=r"own\.safetensors is a checkpoint of densenets already"):
            convert(tmp_path / "own.safetensors", tmp_path / "ours.safetensors")


def test_another_network_is_refused_by_its_keys(tmp_path: Path):
    text = refusal(tmp_path, torchvision.models.resnet18().state_dict())
    assert "theirs.pth holds no whole DenseNet: layer2.0.conv1.weight is 128x64x3x3" in text


@pytest.mark.parametrize("name", ["gone.pth", "gone.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=f"there is no .*{name}"):
        convert(tmp_path / name, tmp_path / "ours.safetensors")


@pytest.mark.parametrize("out", ["ours.pth", "ours"])
def test_a_checkpoint_has_the_suffix_by_which_it_is_read(tmp_path: Path, out: str):
    with pytest.raises(InputError, match=r"such as ours\.safetensors"):
        convert(tmp_path / "theirs.pth", tmp_path / out)


def test_the_source_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "theirs.safetensors"
    save_file(small_network().state_dict(), path)
    with pytest.raises(InputError, match="is the file to be converted; give another name"):
        convert(path, tmp_path / "." / "theirs.safetensors", normalization=NORMALIZATION)


def test_the_checkpoint_says_where_it_comes_from_without_a_path(tmp_path: Path):
    conversion = convert_weights(tmp_path, renamed(small_network().state_dict(), "dice"), data="cifar10")
    checkpoint = read_checkpoint(conversion.checkpoint)
    digest = hashlib.sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest()
    assert checkpoint.details["source"] == {
        "file": "theirs.pth",
        "sha256": digest,
        "form": "andreasveit/densenet-pytorch",
        "keys": len(small_network().state_dict()),
        "not_taken_over": {},
        "counters_added": 0,
    }
    assert str(tmp_path) not in json.dumps(checkpoint.details)
    assert checkpoint.classes[:2] == ("airplane", "automobile")
    assert checkpoint.preprocessing == conversion.preprocessing


def test_features_alone_are_taken(tmp_path: Path):
    weights = {key: value for key, value in WEIGHTS_HERE.items() if not key.startswith("classifier.")}
    converted = convert_weights(tmp_path, weights)
    assert (converted.classes, converted.config.num_classes) == ((), 0)
    assert "it has no classes, and gives features; --new-head N puts a head on it" in converted.notes
    assert read_checkpoint(converted.checkpoint).classes == ()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("features.conv0.weight", math.nan, "features.conv0.weight has numbers that are NaN or infinite"),
        ("classifier.bias", math.inf, "classifier.bias has numbers that are NaN or infinite"),
        ("features.norm5.running_var", -1.0, "features.norm5.running_var has negative numbers"),
    ],
)
def test_numbers_that_no_network_has_are_named(tmp_path: Path, key: str, value: float, reason: str):
    weights = {name: tensor.clone() for name, tensor in WEIGHTS_HERE.items()}
    weights[key].view(-1)[0] = value
    assert reason in refusal(tmp_path, weights)


@pytest.mark.parametrize("change", [{"new_head": 10**9}, {"in_channels": 10**9}])
def test_sizes_beyond_all_use_are_refused_before_they_are_made(tmp_path: Path, change: dict[str, int]):
    assert "must be at most" in refusal(tmp_path, WEIGHTS_HERE, adaptation=Adaptation(**change))


def test_constants_in_the_graph_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "densenets.weights.conversion.read_file",
        lambda path: dataclasses.replace(read_file(path), normalizes=True),
    )
    told = refusal(tmp_path, WEIGHTS_HERE, normalization=None)
    assert "its graph normalises pixels by itself" in told
    assert convert_weights(tmp_path, WEIGHTS_HERE).preprocessing.mean == NORMALIZATION.mean


def test_of_cifars_networks_the_constants_have_to_be_said(tmp_path: Path):
    text = refusal(tmp_path, small_network().state_dict(), normalization=None)
    assert "give --mean and --std" in text
    assert "--data for its own (cifar10 or cifar100 or imagenet)" in text
