"""Checkpoints that are written: whole or not at all, and by value."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_checkpoints import save, save_with, trained_network
from torch import nn

import densenets
from densenets.errors import InputError
from densenets.models.densenet import DenseNet


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DenseNet]:
    model = trained_network()
    save(tmp_path / "net.safetensors", model)
    return tmp_path / "net.safetensors", model


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_keeps_the_older_file(
    saved: tuple[Path, DenseNet], monkeypatch: pytest.MonkeyPatch, code: int
):
    path, _ = saved
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(code, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match=r"the disk is full: could not write .*net.safetensors"):
        save(path, trained_network(seed=1))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]  # and no .partial


def test_interruption_while_writing_keeps_the_older_file(
    saved: tuple[Path, DenseNet], monkeypatch: pytest.MonkeyPatch
):
    path, _ = saved
    before = path.read_bytes()

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, trained_network(seed=1))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_a_file_in_the_folders_place_is_named(saved: tuple[Path, DenseNet]):
    path, model = saved
    with pytest.raises(InputError, match=r"cannot write .*; name a folder that can be written"):
        save(path / "below" / "net.safetensors", model)


def test_saving_again_replaces_the_file(saved: tuple[Path, DenseNet]):
    path, first = saved
    second = trained_network(seed=1)
    save(path, second)
    weight = densenets.load(path).classifier.weight
    assert torch.equal(weight, second.classifier.weight)
    assert not torch.equal(weight, first.classifier.weight)


def test_parameters_that_are_no_plain_tensors_are_saved_by_value(tmp_path: Path):
    # As an optimiser or an average holds them: parameters, views, other memory formats.
    model = trained_network()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    weights["features.conv0.weight"] = weights["features.conv0.weight"].to(memory_format=torch.channels_last)
    weights["classifier.bias"] = nn.Parameter(weights["classifier.bias"])
    save_with(tmp_path / "a.safetensors", weights)
    loaded = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())
