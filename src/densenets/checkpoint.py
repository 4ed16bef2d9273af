"""Checkpoints: one safetensors file that rebuilds its model, classes and preprocessing by itself.

DenseNets and ImageNet's ResNets carry torchvision's key names and nothing else, so other programs read them
too; what a network is stands as JSON in the file's metadata. Reading one executes no code.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.files import read_json, write_bytes
from densenets.models.configs.base import NetworkConfig
from densenets.models.configs.families import config_from_dict
from densenets.models.create import build_network
from densenets.models.network import Network
from densenets.ops.execution import Execution

FORMAT = "densenets-1"  # what the metadata of our files say


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of its network beside the weights.

    Attributes:
        config: what the network is.
        classes: names of the classes; logit i is that of classes[i].
        preprocessing: from a picture to the network's input.
        details: where it comes from (recipe, epoch, errors), for people to read.
    """

    config: NetworkConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    details: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and all that its use needs.

    Attributes:
        model: with its weights, in evaluation mode.
        classes: names of the classes; logit i is that of classes[i].
        preprocessing: from a picture to the network's input.
        details: where it comes from (recipe, epoch, errors), for people to read.
    """

    model: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    details: dict[str, Any]


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    config: NetworkConfig,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    details: dict[str, Any],
) -> None:
    """Write a checkpoint, atomically.

    Raises:
        InputError: the disk is full or the folder cannot be written; an older file is untouched.
    """
    metadata = {
        "format": FORMAT,
        "model": json.dumps(config.to_dict()),
        "classes": json.dumps(classes),
        "preprocessing": json.dumps(preprocessing.to_dict()),
        "details": json.dumps(details),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    write_bytes(path, save(tensors, metadata))


def checkpoint_path(path: Path) -> Path:
    """The checkpoint that a path means: the file itself, or the one that a run's folder reports.

    Raises:
        InputError: there is neither.
    """
    if not path.is_dir():
        if path.exists():
            return path
        raise InputError(f"there is no run or checkpoint {path}")
    if not (path / "recipe.json").exists():
        raise InputError(f"{path} is no run's folder (it has no recipe.json); name a run or a checkpoint")
    try:
        reported = read_json(path / "recipe.json")["training"]["report"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path / 'recipe.json'} is no recipe of a run; it is broken or not ours") from error
    if reported == "auto":  # there is a best one only where there are validation images to choose by
        reported = "best" if (path / "checkpoints" / "best.safetensors").exists() else "last"
    file = path / "checkpoints" / f"{reported}.safetensors"
    if not file.exists():
        raise InputError(f"the run {path} has no checkpoint yet; train it with --resume")
    return file


def read_checkpoint(path: str | Path, execution: Execution = "auto") -> Checkpoint:
    """Rebuild what a run's folder or a checkpoint file holds.

    Raises:
        InputError: there is none, or it is truncated, or another program's.
    """
    file = checkpoint_path(Path(path))
    weights, metadata = read_safetensors(file)
    description = _description(file, metadata)
    with torch.device("meta"):
        model = build_network(description.config, execution)
    described = {key: value.shape for key, value in model.state_dict().items()}
    found = {key: value.shape for key, value in weights.items()}
    if differing := [key for key in described | found if described.get(key) != found.get(key)]:
        raise InputError(f"{file} does not fit its own description; it differs in {differing[0]}")
    model.load_state_dict(weights, assign=True)
    return Checkpoint(
        model=model.eval(),
        classes=description.classes,
        preprocessing=description.preprocessing,
        details=description.details,
    )


def read_description(path: str | Path) -> Description:
    """What a run's folder or a checkpoint file says of its network; the weights are not read.

    Raises:
        InputError: there is none, or it is truncated, or another program's.
    """
    file = checkpoint_path(Path(path))
    with _opened(file) as content:
        metadata = content.metadata() or {}
    return _description(file, metadata)


def _description(file: Path, metadata: Mapping[str, str]) -> Description:
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{file} was not written by densenets (no network is described in it); weights of other "
            "programs come in with: densenets convert FILE --out CHECKPOINT"
        )
    return Description(
        config=config_from_dict(json.loads(metadata["model"])),
        classes=tuple(json.loads(metadata["classes"])),
        preprocessing=Preprocessing.from_dict(json.loads(metadata["preprocessing"])),
        details=json.loads(metadata["details"]),
    )


def load(path: str | Path, execution: Execution = "auto") -> Network:
    """The trained network of a run's folder or a checkpoint file, in evaluation mode.

    Raises:
        InputError: there is none, or it is truncated, or another program's.
    """
    return read_checkpoint(path, execution).model


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata.

    Raises:
        InputError: the file is truncated or of another kind.
    """
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); it is truncated or another kind"
        ) from error
