"""Networks of other libraries, with random weights: there and back, the same tensors and the same logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from foreign_weights import randomized
from safetensors.torch import save_file
from torch import nn

from densenets.checkpoint import read_checkpoint
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.network import Network
from densenets.weights.conventions import Normalization
from densenets.weights.conversion import convert
from densenets.weights.reading import read_file
from densenets.weights.recognition import DenseNetWeights, Unsaid, recognized_densenet

SIZES = {"growth_rate": 8, "block_config": (2, 3)}


def of_torchvision() -> nn.Module:
    return torchvision.models.DenseNet(num_init_features=12, num_classes=5, **SIZES)


def of_torchvision_with_another_bottleneck() -> nn.Module:
    return torchvision.models.DenseNet(num_init_features=12, num_classes=5, bn_size=2, **SIZES)


def of_timm() -> nn.Module:
    densenet = pytest.importorskip("timm.models.densenet")
    return densenet.DenseNet(num_classes=5, in_chans=1, **SIZES)


def of_monai(dims: int) -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    return nets.DenseNet(spatial_dims=dims, in_channels=1, out_channels=5, init_features=12, **SIZES)


def of_torchxrayvision() -> nn.Module:
    models = pytest.importorskip("torchxrayvision.models")
    model = models.DenseNet(num_init_features=12, num_classes=18, in_channels=1, weights=None, **SIZES)
    model.register_buffer("op_threshs", torch.rand(18))
    return model


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "torchvision": of_torchvision,
    "torchvision, narrow": of_torchvision_with_another_bottleneck,
    "timm": of_timm,
    "MONAI, images": lambda: of_monai(2),
    "MONAI, volumes": lambda: of_monai(3),
    "MONAI, signals": lambda: of_monai(1),
    "torchxrayvision": of_torchxrayvision,
}


def trained(model: nn.Module) -> Any:
    """The network with numbers of its own everywhere, that give logits of a usual size."""
    model = randomized(model)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.sub_(value.mean()).mul_(math.sqrt(2 / value[0].numel()) / value.std())
    return model


def our_network(found: DenseNetWeights) -> Network:
    model = build_network(found.config)
    model.load_state_dict(found.weights, strict=True)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("saved", ["state dict", "safetensors", "whole network", "whole network, old format"])
def test_there_and_back_gives_the_same_tensors_and_logits(tmp_path: Path, name: str, saved: str):
    theirs = trained(NETWORKS[name]())
    path = tmp_path / f"theirs.{'safetensors' if saved == 'safetensors' else 'pth'}"
    state = theirs.state_dict()
    if saved == "safetensors":
        save_file(state, path)
    elif saved == "state dict":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        torch.save(theirs, path, _use_new_zipfile_serialization=saved == "whole network")

    found = recognized_densenet(read_file(path))

    assert sorted(found.keys) == sorted(state)  # every key is accounted for
    assert set(found.unused) == {key for key in state if key == "op_threshs"}
    back = {key: found.weights[ours] for key, ours in found.keys.items() if ours}
    assert all(torch.equal(back[key], state[key]) for key in back)
    empty = NETWORKS[name]()
    empty.load_state_dict(state | back, strict=True)
    x = torch.randn(2, found.config.in_channels, *[33] * found.config.spatial_dims)
    if name == "torchxrayvision":
        theirs.op_threshs = None
    with torch.no_grad():
        expected, actual = theirs(x), our_network(found)(x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_every_key_is_taken_from_torchxrayvision(tmp_path: Path):
    torch.save(trained(of_torchxrayvision()), tmp_path / "xrv.pt")
    converted = convert(
        tmp_path / "xrv.pt",
        tmp_path / "ours.safetensors",
        normalization=Normalization(mean=(0.5,), std=(1 / 2048,)),
    )
    assert converted.form == "torchvision"
    assert "not taken over: 1, such as op_threshs, thresholds behind the logits" in converted.lines
    assert len(read_checkpoint(converted.checkpoint).classes) == 18


# Keras


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
@pytest.mark.slow
def test_keras_network_comes_back_from_its_file_and_gives_its_logits(tmp_path: Path, suffix: str):
    import keras_networks  # which chooses Keras' backend

    keras = keras_networks.keras
    theirs = keras_networks.published_kind()
    for layer in theirs.layers:  # of a usual size
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            layer.set_weights([(kernel - kernel.mean()) * math.sqrt(2 / kernel[..., 0].size) / kernel.std()])
    theirs.layers[-1].activation = keras.activations.linear  # logits
    file = read_file(keras_networks.save(theirs, tmp_path / f"theirs{suffix}"))
    if suffix == ".weights.h5":  # which says nothing but numbers
        with pytest.raises(InputError, match=r"--new-maps"):
            recognized_densenet(file)
        with pytest.raises(InputError, match=r"--norm-epsilon, which is 1\.001e-5 in keras\.applications"):
            recognized_densenet(file, unsaid=Unsaid(new_maps="last"))
        found = recognized_densenet(file, unsaid=Unsaid(new_maps="last", norm_epsilon=1.001e-5))
    else:
        found = recognized_densenet(file)
    assert found.config.norm_epsilon == 1.001e-5
    assert found.config.block_layers == (2, 1, 1, 1)
    assert not found.unused
    # Every tensor of theirs is one of ours, transposed at most.
    back = {key: found.weights[ours] for key, ours in found.keys.items() if ours}
    assert len(back) == len(theirs.weights) == len(found.weights) - len(found.counters_added)
    of_layer = sorted(value.sum().item() for value in back.values())
    assert of_layer == pytest.approx(
        sorted(float(value.numpy().sum()) for value in theirs.weights), rel=1e-5, abs=1e-3
    )
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        actual = our_network(found)(x)
        expected = torch.as_tensor(theirs(x.permute(0, 2, 3, 1)).detach().numpy())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# ONNX, whose exporters fold norms: logits alone


@pytest.mark.parametrize("name", ["torchvision", "timm", "MONAI, volumes"])
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.slow
def test_an_onnx_file_gives_the_logits_of_what_was_exported(tmp_path: Path, name: str, dynamo: bool):
    import onnx_graphs

    theirs = trained(NETWORKS[name]())
    x = torch.randn(2, 3 if name == "torchvision" else 1, *[33] * (3 if "volumes" in name else 2))
    path = onnx_graphs.export(theirs, tmp_path / "theirs.onnx", x, dynamo=dynamo)
    found = recognized_densenet(read_file(path))
    with torch.no_grad():
        expected, actual = theirs(x), our_network(found)(x)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
