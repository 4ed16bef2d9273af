"""Weights from any file, and the network that they are of.

A DenseNet is read off the weights themselves, our own checkpoints say what they hold, and any other network
has to be named. Understood are torchvision's keys, the older form of its published DenseNets
(`norm.1.weight` for `norm1.weight`) and the prefixes that wrappers leave, in safetensors or PyTorch files.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenets.checkpoint import FORMAT, checkpoint_path, read_safetensors
from densenets.errors import InputError
from densenets.models.configs.base import NetworkConfig
from densenets.models.configs.densenet import BOTTLENECK_WIDTH, DenseNetConfig, Stem
from densenets.models.configs.families import config_from_dict

_FIRST_OF_DENSENET = "features.conv0.weight"
_OLD_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv1\.weight")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "backbone.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a DenseNet in a file, with torchvision's key names.

    Raises:
        InputError: there is no such file, it is broken, holds no DenseNet, or would need code to be run.
    """
    weights, _ = _read_file(path)
    if _FIRST_OF_DENSENET not in weights:
        raise _no_densenet(path, weights)
    return weights


def read_network(
    path: Path, named: NetworkConfig, dropout: float = 0.0
) -> tuple[dict[str, Tensor], NetworkConfig]:
    """The state dict in a file, and the network that it is of.

    Args:
        path: the file, or a run's folder.
        named: what the weights are of if neither they nor the file say so.
        dropout: leaves no trace in a DenseNet's weights; to train on with.

    Raises:
        InputError: there is no such file, it is broken, or would need code to be run; or the weights are of
            no DenseNet although one was named, or not of the network that was.
    """
    weights, metadata = _read_file(path)
    if _FIRST_OF_DENSENET in weights:
        return weights, infer_config(weights, dropout)
    if metadata.get("format") == FORMAT:
        return weights, config_from_dict(json.loads(metadata["model"]))
    if isinstance(named, DenseNetConfig):
        raise _no_densenet(path, weights)
    head = weights.get(f"{named.head}.weight")
    images = [value.shape[1] for value in weights.values() if value.dim() == 4]
    if head is None or not images:
        raise InputError(f"{path} holds no {named.title}: {named.head}.weight or a convolution is missing")
    return weights, dataclasses.replace(named, num_classes=head.shape[0], in_channels=images[0])


def infer_config(weights: Mapping[str, Tensor], dropout: float = 0.0) -> DenseNetConfig:
    """The network that the weights are of, from the names and shapes alone.

    Args:
        weights: a state dict with torchvision's key names.
        dropout: leaves no trace in weights; to train on with.

    Raises:
        InputError: a weight that a DenseNet must have is missing.
    """
    try:
        return _infer_config(weights, dropout)
    except KeyError as error:
        raise InputError(f"the weights are not a whole DenseNet's: {error} is missing") from error


def _infer_config(weights: Mapping[str, Tensor], dropout: float) -> DenseNetConfig:
    block_layers = _block_layers(weights)
    stem = weights["features.conv0.weight"]
    first = "features.denseblock1.denselayer1."
    bottleneck = first + "conv2.weight" in weights
    growth_rate = weights[first + ("conv2.weight" if bottleneck else "conv1.weight")].shape[0]
    if bottleneck and weights[first + "conv1.weight"].shape[0] != BOTTLENECK_WIDTH * growth_rate:
        raise KeyError(f"a bottleneck of {BOTTLENECK_WIDTH}k channels")
    transitions = [
        tuple(weights[f"features.transition{block}.conv.weight"].shape[:2])
        for block in range(1, len(block_layers))
    ]
    kind: Stem = "imagenet" if "features.norm0.weight" in weights else "cifar"
    return DenseNetConfig(
        block_layers=block_layers,
        growth_rate=growth_rate,
        bottleneck=bottleneck,
        compression=_compression(transitions),
        stem=kind,
        stem_channels=stem.shape[0],
        dropout=dropout,
        num_classes=weights["classifier.weight"].shape[0],
        in_channels=stem.shape[1],
        spatial_dims=stem.dim() - 2,
    )


def _block_layers(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """How many layers each block has; none of them may be missing."""
    found: dict[int, set[int]] = {}
    for key in weights:
        if match := _LAYER.fullmatch(key):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    for block in range(1, max(found, default=1) + 1):
        layers = found.get(block, set())
        for layer in range(1, max(layers, default=1) + 1):
            if layer not in layers:
                raise KeyError(f"features.denseblock{block}.denselayer{layer}.conv1.weight")
    return tuple(len(found[block]) for block in sorted(found))


def _compression(transitions: list[tuple[int, ...]]) -> float:
    """The theta with which floor(theta * read) is what each transition hands on."""
    # Each transition allows the thetas of [handed on / read, (handed on + 1) / read).
    lowest = max((handed_on / read for handed_on, read in transitions), default=1.0)
    highest = min(((handed_on + 1) / read for handed_on, read in transitions), default=1.0)
    for theta in (1.0, 0.5, (lowest + highest) / 2):
        if all(math.floor(theta * read) == handed_on for handed_on, read in transitions):
            return theta
    raise KeyError("one compression for all transitions")


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by today's key names, and what the file says beside them."""
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors" or path.is_dir():
        weights, metadata = read_safetensors(checkpoint_path(path))
    else:
        weights = _read_pytorch(path)
    return {_current_key(key): value for key, value in weights.items()}, metadata


def _no_densenet(path: Path, weights: Mapping[str, Tensor]) -> InputError:
    found = ", ".join(list(weights)[:3])
    return InputError(
        f"{path} holds no DenseNet in torchvision's key names; its keys begin {found}; "
        "another network is named by --model.name"
    )


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no weights file {path}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is broken, or holds more than weights; it was not loaded, since that could run code"
        ) from error
    # What PyTorch's reader stumbles over in a file that it did not write, or that ends too early.
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, struct.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is not a whole PyTorch file ({reason})") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path} holds no state dict (names and tensors)")
    return content


def _current_key(key: str) -> str:
    while prefix := next((p for p in _PREFIXES if key.startswith(p)), None):
        key = key.removeprefix(prefix)
    return _OLD_KEY.sub(r"\1\2.", key)
