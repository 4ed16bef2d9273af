import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from small_networks import small_config
from torch import Tensor

from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config
from densenets.weights.reading import read_network, read_weights

SMALL = small_config(stem="imagenet")


def small_weights() -> dict[str, Tensor]:
    return DenseNet(SMALL, generator=torch.Generator().manual_seed(0)).state_dict()


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


# Files of others


def test_torchvisions_file_loads_strictly_and_gives_its_logits(tmp_path: Path):
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "densenet121.pth")

    found = read_network(tmp_path / "densenet121.pth", named_config("densenet121"))
    weights, config = found.weights, found.config
    assert isinstance(config, DenseNetConfig)

    assert config == dataclasses.replace(named_config("densenet121"), num_classes=7)
    with torch.device("meta"):
        model = DenseNet(config).eval()
    model.load_state_dict(weights, strict=True, assign=True)
    x = torch.randn(1, 3, 33, 33)
    with torch.no_grad():
        # The same float32 operations, which the two libraries may order differently.
        torch.testing.assert_close(model(x), theirs(x), rtol=1e-4, atol=1e-4)


def old_form(key: str) -> str:
    """`denselayer1.norm.1.weight`, as in the files that torchvision published."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)


@pytest.mark.parametrize(
    "rename",
    [
        old_form,
        lambda key: f"module.{key}",
        lambda key: f"_orig_mod.module.{key}",
        lambda key: f"module.{old_form(key)}",
        lambda key: f"model.{key}",
    ],
    ids=["old keys", "DataParallel", "compiled", "DataParallel with old keys", "Lightning"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_other_key_names_are_understood(tmp_path: Path, rename: Any, suffix: str):
    weights = small_weights()
    renamed = {rename(key): value for key, value in weights.items()}
    assert renamed.keys() != weights.keys()
    path = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "pth" else save_file)(renamed, path)
    assert_same(read_weights(path), weights)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_a_training_states_weights_are_found(tmp_path: Path, wrapper: str):
    state = {"epoch": 3, wrapper: small_weights(), "optimizer": {"lr": 0.1}}
    torch.save(state, tmp_path / "last.pt")
    assert_same(read_weights(tmp_path / "last.pt"), small_weights())


@pytest.mark.parametrize("zipped", [True, False])
def test_new_and_old_pytorch_files_are_read(tmp_path: Path, zipped: bool):
    torch.save(small_weights(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_same(read_weights(tmp_path / "w.pth"), small_weights())


# Files that are no DenseNet


@pytest.mark.parametrize("name", ["missing.pth", "missing.safetensors"])
def test_missing_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(InputError, match=f"there is no .*{name}"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["pth", "old pth", "safetensors"])
def test_truncated_file_is_refused(tmp_path: Path, kind: str, share: float):
    path = tmp_path / f"cut.{kind.split()[-1]}"
    if kind == "safetensors":
        save_file(small_weights(), path)
    else:
        torch.save(small_weights(), path, _use_new_zipfile_serialization=kind == "pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut\.(pth|safetensors) is"):
        read_weights(path)


@pytest.mark.parametrize(
    "text", ["hello, world\n", "(1, 2)\n", "{}\n", "Git LFS pointer\n", "<html></html>\n"]
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_text_is_refused(tmp_path: Path, suffix: str, text: str):
    path = tmp_path / f"page.{suffix}"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"page\.{suffix} is"):
        read_weights(path)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"epoch": 3}, torch.zeros(3), {0: torch.zeros(3)}],
    ids=["list", "dict", "tensor", "numbered"],
)
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_weights(tmp_path / "other.pth")


def test_another_networks_weights_are_refused_by_their_keys(tmp_path: Path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"resnet\.pth holds no whole DenseNet: layer2\.0\.conv1\.weight is"):
        read_weights(tmp_path / "resnet.pth")
