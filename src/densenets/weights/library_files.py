"""Checkpoints written for other libraries: a state dict for torchvision, a folder for timm.

Their DenseNets have the same keys and fewer options. A network is written only where theirs computes the same
logits; dropout, which weights do not show, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save

from densenets.checkpoint import Checkpoint, stored_tensors
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.files import write_atomically, write_bytes, write_json
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config

Library = Literal["torchvision", "timm"]

_EPSILON = 1e-5  # of PyTorch's norms, which both libraries take as it is
_TORCHVISION_SUFFIXES = (".pth", ".pt")

_NAMED = ("densenet121", "densenet169", "densenet201", "densenet161")  # of both libraries, as they are here
_TIMM_BASE = "densenet121"  # the architecture whose sizes `model_args` change, where none is named
_BOTTLENECK_WIDTH = 4  # of the named ones


def write_torchvision(checkpoint: Checkpoint, path: Path) -> str:
    """Write a DenseNet's weights as a state dict for torchvision.models.DenseNet, atomically.

    Args:
        checkpoint: of a DenseNet with torchvision's layers, of any size.
        path: the file, *.pth or *.pt. It holds tensors alone; classes and preprocessing stay behind.

    Returns:
        The Python expression that builds the network for it, such as "torchvision.models.densenet121()".

    Raises:
        InputError: torchvision's DenseNet does not compute the same, the path has another suffix, the folder
            cannot be written, or the disk is full.
    """
    if path.suffix not in _TORCHVISION_SUFFIXES:
        raise InputError(f"a file for torchvision must be *.pth or *.pt, such as {path.stem}.pth, got {path}")
    config = checked_densenet(checkpoint, "torchvision")
    weights = stored_tensors(checkpoint.model.state_dict())
    write_atomically(path, lambda file: torch.save(weights, file))
    return _torchvision_call(config)


def write_timm(checkpoint: Checkpoint, folder: Path) -> str:
    """Write a DenseNet as timm reads it: a folder of model.safetensors and config.json, each atomically.

    The config has the classes and the preprocessing too, so timm's own transform makes the same images.

    Args:
        checkpoint: of a DenseNet with timm's layers, of any size and any number of channels.
        folder: made if it is not there; the two files are replaced.

    Returns:
        The Python expression that loads it: "timm.create_model('local-dir:FOLDER', pretrained=True)".

    Raises:
        InputError: timm's DenseNet does not compute the same, the folder cannot be written, or the disk is
            full.
    """
    config = checked_densenet(checkpoint, "timm")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; timm reads a folder, so name one")
    described = timm_config(config, checkpoint.classes, checkpoint.preprocessing)
    write_bytes(
        folder / "model.safetensors", save(stored_tensors(checkpoint.model.state_dict()), {"format": "pt"})
    )
    write_json(folder / "config.json", described)
    return f"timm.create_model({f'local-dir:{folder}'!r}, pretrained=True)"


def checked_densenet(checkpoint: Checkpoint, library: Library) -> DenseNetConfig:
    """The config of a DenseNet that a library's DenseNet computes in the same way.

    Raises:
        InputError: it does not; the line names the first field in which they differ, and its value.
    """
    config = checkpoint.model.config
    theirs = f"{library}'s DenseNet"
    if not isinstance(config, DenseNetConfig):
        raise InputError(f"the network is a {config.title}, and {theirs} computes DenseNets alone")
    if (changed := checkpoint.model.changed_module()) is not None:
        raise InputError(f"the network was changed at {changed}; {theirs} computes what its config builds")
    needed: list[tuple[str, bool, str]] = [
        ("stem", config.stem == "imagenet", "imagenet"),
        ("bottleneck", config.bottleneck, "True"),
        ("compression", _halves(config), "0.5"),
        ("spatial_dims", config.spatial_dims == 2, "2"),
        ("norm_epsilon", config.norm_epsilon == _EPSILON, f"{_EPSILON:g}"),
    ]
    if library == "torchvision":
        needed += [
            ("in_channels", config.in_channels == 3, "3"),
            ("num_classes", config.num_classes > 0, "1 or more"),
        ]
    else:
        width = 2 * config.growth_rate
        needed += [("stem_channels", config.stem_channels == width, f"{width}, twice the growth rate")]
    for field, is_theirs, value in needed:
        if not is_theirs:
            raise InputError(f"{theirs} has {field} {value}, and this network's is {getattr(config, field)}")
    return config


def timm_config(
    config: DenseNetConfig, classes: Sequence[str], preprocessing: Preprocessing
) -> dict[str, Any]:
    """What timm's config.json says of a network that `checked_densenet` has found to be timm's.

    Args:
        config: of the network.
        classes: names of the classes, in the order of the logits.
        preprocessing: from a picture to the network's input.
    """
    name = _library_name(config)
    architecture = name or _TIMM_BASE
    model_args: dict[str, Any] = {}
    if name is None:
        model_args |= {"growth_rate": config.growth_rate, "block_config": list(config.block_layers)}
    if config.bottleneck_width != _BOTTLENECK_WIDTH:
        model_args["bn_size"] = config.bottleneck_width
    side = preprocessing.image_size
    return {
        "architecture": architecture,
        "num_classes": config.num_classes,
        "num_features": config.num_features,
        **({"label_names": list(classes)} if classes else {}),
        **({"model_args": model_args} if model_args else {}),
        "pretrained_cfg": {
            "num_classes": config.num_classes,
            "input_size": [config.in_channels, side, side],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": _crop_share(preprocessing),
            "crop_mode": "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "first_conv": "features.conv0",
            "classifier": "classifier",
        },
    }


def _halves(config: DenseNetConfig) -> bool:
    """Whether every transition has half the channels, rounded down."""
    return all(block.transition_out_channels == block.out_channels // 2 for block in config.blocks()[:-1])


def _crop_share(preprocessing: Preprocessing) -> float:
    """The crop's side as a share of the resized picture's shorter side, which timm computes from it."""
    side, resize = preprocessing.image_size, preprocessing.resize
    share = side / resize
    while math.floor(side / share) < resize:  # the quotient may lie just below
        share = math.nextafter(share, 0)
    return share


def _library_name(config: DenseNetConfig) -> str | None:
    """The name by which both libraries build a network of these blocks."""
    for name in _NAMED:
        named = named_config(name)
        assert isinstance(named, DenseNetConfig)
        if (named.growth_rate, named.block_layers) == (config.growth_rate, config.block_layers):
            return name
    return None


def _torchvision_call(config: DenseNetConfig) -> str:
    # The named ones have their own stem, and take no other.
    name = _library_name(config) if config.stem_channels == 2 * config.growth_rate else None
    arguments: dict[str, Any] = {}
    if name is None:
        arguments["growth_rate"] = config.growth_rate
        arguments["block_config"] = config.block_layers
        arguments["num_init_features"] = config.stem_channels
    if config.bottleneck_width != _BOTTLENECK_WIDTH:
        arguments["bn_size"] = config.bottleneck_width
    if config.num_classes != 1000:
        arguments["num_classes"] = config.num_classes
    given = ", ".join(f"{field}={value}" for field, value in arguments.items())
    return f"torchvision.models.{name or 'DenseNet'}({given})"
