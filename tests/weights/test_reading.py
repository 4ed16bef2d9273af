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
from densenets.models.registry import DENSENETS, named_config
from densenets.weights.reading import infer_config, read_weights

SMALL = small_config(stem="imagenet")


def small_weights() -> dict[str, Tensor]:
    return DenseNet(SMALL, generator=torch.Generator().manual_seed(0)).state_dict()


def meta_weights(config: DenseNetConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return DenseNet(config).state_dict()


def shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


# What network it is


@pytest.mark.parametrize("name", DENSENETS)
def test_every_network_of_the_zoo_is_known_by_its_weights(name: str):
    config = DENSENETS[name].config
    assert infer_config(meta_weights(config)) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "cifar", "spatial_dims": 1},
        {"spatial_dims": 3, "in_channels": 1},
        {"bottleneck": False, "compression": 1.0},
        {"block_layers": (12,), "compression": 1.0},
        {"block_layers": (1, 2, 1, 2, 1), "num_classes": 1},
    ],
)
def test_other_networks_are_known_by_their_weights(changes: dict[str, Any]):
    config = dataclasses.replace(SMALL, **changes)
    assert infer_config(meta_weights(config)) == config


def test_dropout_leaves_no_trace_and_is_what_the_caller_says():
    weights = meta_weights(dataclasses.replace(SMALL, dropout=0.2))
    assert infer_config(weights).dropout == 0
    assert infer_config(weights, dropout=0.1).dropout == 0.1


@pytest.mark.parametrize(
    ("compression", "block_layers", "growth_rate", "stem_channels"),
    [
        (0.5, (1, 1, 1), 3, 2),  # odd numbers of channels
        (0.3, (2, 3, 2), 5, 7),
        (0.61, (3, 1, 4, 2), 6, 16),
        (0.98, (7, 9, 3), 19, 15),
        (0.13, (8, 2, 5, 9, 5), 8, 43),
        (0.473, (6, 10, 4, 5), 12, 25),
        (0.432, (7, 11, 12, 1, 3), 29, 9),
    ],
)
def test_inferred_compression_rebuilds_the_same_shapes(
    compression: float, block_layers: tuple[int, ...], growth_rate: int, stem_channels: int
):
    config = dataclasses.replace(
        SMALL,
        compression=compression,
        block_layers=block_layers,
        growth_rate=growth_rate,
        stem_channels=stem_channels,
    )
    weights = meta_weights(config)
    assert shapes(meta_weights(infer_config(weights))) == shapes(weights)


# Files of others


def test_torchvisions_file_loads_strictly_and_gives_its_logits(tmp_path: Path):
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(num_classes=7).eval()
    torch.save(theirs.state_dict(), tmp_path / "densenet121.pth")

    weights = read_weights(tmp_path / "densenet121.pth")
    config = infer_config(weights)

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


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path: Path, zipped: bool):
    mark = tmp_path / "ran"
    content = {"state_dict": small_weights(), "trap": Trap(mark)}
    torch.save(content, tmp_path / "trap.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="was not loaded, since that could run code"):
        read_weights(tmp_path / "trap.pth")
    assert not mark.exists()
    torch.load(tmp_path / "trap.pth", weights_only=False)
    assert mark.exists()  # it would have run


def test_whole_module_is_refused(tmp_path: Path):
    torch.save(DenseNet(SMALL), tmp_path / "module.pth")
    with pytest.raises(InputError, match="holds more than weights"):
        read_weights(tmp_path / "module.pth")


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
    with torch.device("meta"):
        keys = list(torchvision.models.resnet18().state_dict())
    torch.save({key: torch.zeros(1) for key in keys}, tmp_path / "resnet.pth")
    with pytest.raises(InputError, match=r"holds no DenseNet .* begin conv1.weight, bn1.weight, bn1.bias"):
        read_weights(tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    "missing",
    [
        "classifier.weight",
        "features.transition1.conv.weight",
        "features.denseblock1.denselayer1.conv1.weight",
        "features.denseblock1.denselayer2.conv1.weight",
        "features.denseblock2.denselayer2.conv1.weight",
        "features.denseblock1.",
    ],
)
def test_weights_that_miss_a_layer_are_never_taken_for_a_whole_network(missing: str):
    kept = {key: value for key, value in meta_weights(SMALL).items() if not key.startswith(missing)}
    try:
        config = infer_config(kept)
    except InputError as error:
        assert "not a whole DenseNet" in str(error)  # noqa: PT017 - either way of noticing will do
    else:
        # At the latest, the network of the inferred config must not fit.
        assert shapes(meta_weights(config)) != shapes(kept)


@pytest.mark.parametrize("missing", ["classifier.weight", "features.transition1.conv.weight"])
def test_missing_weight_is_named(missing: str):
    weights = meta_weights(SMALL)
    del weights[missing]
    with pytest.raises(InputError, match=f"not a whole DenseNet's: .*{missing}.* is missing"):
        infer_config(weights)


def test_missing_layer_is_noticed():
    kept = {key: value for key, value in meta_weights(SMALL).items() if "denseblock2.denselayer2." not in key}
    with pytest.raises(InputError, match="not a whole DenseNet's"):
        infer_config(kept)


def test_another_bottleneck_width_is_refused():
    weights = meta_weights(SMALL)
    key = "features.denseblock1.denselayer1.conv1.weight"
    weights[key] = torch.empty(3 * 4, 8, 1, 1, device="meta")
    with pytest.raises(InputError, match="a bottleneck of 4k channels"):
        infer_config(weights)
