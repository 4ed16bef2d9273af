import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from foreign_weights import randomized
from safetensors.torch import save_file
from small_networks import small_config
from torch import nn

import densenets
from densenets.errors import InputError
from densenets.models.densenet import DenseNet
from densenets.weights.conventions import Normalization
from densenets.weights.conversion import convert
from densenets.weights.pretrained import create_model, list_models
from densenets.weights.published.manifest import PUBLISHED


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch hub's folder of weights, empty; no other cache is there."""
    for variable in ("TORCH_HOME", "HF_HOME", "KERAS_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "caches"))
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "caches" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def small_file(folder: Path, **changes: Any) -> tuple[Path, DenseNet]:
    model = randomized(DenseNet(small_config(stem="imagenet", **changes)))
    torch.save(model.state_dict(), folder / "small.pth")
    return folder / "small.pth", model


def named_like(config: Any, **fields: Any) -> nn.Module:
    """A call of `create_model` for the small network, which is densenet121 with other numbers."""
    numbers = {name: getattr(config, name) for name in ("block_layers", "growth_rate", "stem_channels")}
    return create_model("densenet121", **numbers, **fields)


def test_a_file_of_weights_is_a_network(tmp_path: Path):
    path, theirs = small_file(tmp_path)
    model = named_like(theirs.config, weights=path).eval()
    x = torch.randn(1, 3, 33, 33)
    assert torch.equal(model(x), theirs(x))
    assert model.config == theirs.config


def test_classes_channels_and_dimensions_are_those_that_are_asked_for(tmp_path: Path):
    path, theirs = small_file(tmp_path)
    changed = {"num_classes": 3, "in_channels": 1, "spatial_dims": 3, "dropout": 0.2}
    generator = torch.Generator().manual_seed(0)
    model = named_like(theirs.config, weights=path, generator=generator, **changed)
    assert model.config == dataclasses.replace(theirs.config, **changed)
    assert model.eval()(torch.randn(1, 1, 17, 17, 17)).shape == (1, 3)
    kernel = theirs.state_dict()["features.denseblock1.denselayer1.conv2.weight"]
    torch.testing.assert_close(model.features.denseblock1.denselayer1.conv2.weight.sum(2), kernel)


def test_no_classes_give_features(tmp_path: Path):
    path, theirs = small_file(tmp_path)
    model = named_like(theirs.config, weights=path, num_classes=0).eval()
    x = torch.randn(1, 3, 33, 33)
    torch.testing.assert_close(theirs.classifier(model(x)), theirs(x))


def test_weights_of_another_network_are_refused_by_what_differs(tmp_path: Path):
    path, theirs = small_file(tmp_path)
    with pytest.raises(InputError, match=r"small\.pth is of another network than .*: its block_layers is"):
        create_model("densenet121", weights=path)
    with pytest.raises(InputError, match=r"its norm_epsilon is 1e-05, not 0\.001"):
        named_like(theirs.config, weights=path, norm_epsilon=0.001)


def test_published_weights_are_found_where_their_library_keeps_them(hub: Path):
    theirs = randomized(torchvision.models.densenet121())
    entry = PUBLISHED["timm/densenet121.tv_in1k"]  # of which no checksum is published
    save_file(theirs.state_dict(), hub / entry.file_name)
    model = create_model("densenet121", weights=entry.name).eval()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_file_of_that_name_that_is_another_is_refused_by_its_checksum(hub: Path):
    (hub / PUBLISHED["torchvision/densenet121"].file_name).write_bytes(b"not these weights")
    with pytest.raises(InputError, match=r"densenet121-a639ec97\.pth.*: its sha256 is .* begins a639ec97"):
        create_model("densenet121", weights="torchvision")


@pytest.mark.usefixtures("hub")
def test_what_is_not_here_is_not_fetched_unasked():
    with pytest.raises(InputError, match="densenets weights torchvision/densenet121 --download fetches it"):
        create_model("densenet121", weights="torchvision")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("gone.pth", r"there is no weights file gone\.pth"),
        ("torchvison", r"unknown weights 'torchvison'"),
        ("timm", "timm has several weights of densenet121; name one of timm/densenet121"),
    ],
)
def test_weights_that_are_nowhere_are_told_apart(weights: str, message: str):
    with pytest.raises(InputError, match=message):
        create_model("densenet121", weights=weights)


def test_converting_published_weights_takes_their_pixels_and_names(hub: Path, tmp_path: Path):
    models = pytest.importorskip("torchxrayvision.models")
    entry = PUBLISHED["torchxrayvision/densenet121-res224-all"]
    theirs = randomized(models.DenseNet(weights=None, num_classes=18, in_channels=1))
    torch.save(theirs, hub / entry.file_name)
    converted = convert(Path(entry.name), tmp_path / "ours.safetensors")
    assert converted.preprocessing == entry.preprocessing
    assert converted.classes[:3] == ("Atelectasis", "Consolidation", "Infiltration")
    assert "pixels are normalised as torchxrayvision does" in converted.notes
    given = convert(
        Path(entry.name),
        tmp_path / "given.safetensors",
        normalization=Normalization(mean=(0.4,), std=(0.2,)),
        classes=tuple("abcdefghijklmnopqr"),
    )
    assert given.preprocessing.mean == (0.4,)
    assert given.classes[0] == "a"


def test_models_are_listed_by_name():
    names = list_models()
    assert names == sorted(names)
    assert {"densenet121", "densenet-bc-100-12", "resnet50"} <= set(names)
    assert densenets.list_models() == names
