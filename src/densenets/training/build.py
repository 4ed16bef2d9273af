"""The network that a recipe trains: fresh, or from another's weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from densenets.data.load import DataSplits
from densenets.errors import InputError
from densenets.interop.weights import infer_config, read_weights
from densenets.models.densenet import DenseNet
from densenets.training.recipe import Recipe


def build_model(recipe: Recipe, data: DataSplits, device: torch.device) -> tuple[DenseNet, list[str]]:
    """The network of a recipe for some data, on a device, and what there is to tell people about it.

    Raises:
        InputError: the name, the weights or the images do not fit.
    """
    generator = torch.Generator().manual_seed(recipe.training.seed)
    channels, classes = data.preprocessing.channels, len(data.classes)
    if recipe.model.weights:
        model, notes = _from_weights(recipe.model.weights, recipe, channels, classes, generator)
    else:
        config = dataclasses.replace(
            recipe.model.config,
            num_classes=classes,
            in_channels=channels,
        )
        model, notes = DenseNet(config, recipe.model.execution, generator), []
    size = data.preprocessing.image_size
    model.config.check_input((channels, size, size))
    return model.to(device), notes


def _from_weights(
    path: Path, recipe: Recipe, channels: int, classes: int, generator: torch.Generator
) -> tuple[DenseNet, list[str]]:
    weights = read_weights(path)
    config = infer_config(weights, recipe.model.dropout)
    if config.in_channels != channels:
        raise InputError(
            f"{path} reads images of {config.in_channels} channels, the data has {channels}; "
            f"set --data.channels {config.in_channels}"
        )
    old_classes = config.num_classes
    config = dataclasses.replace(config, num_classes=classes)
    model = DenseNet(config, recipe.model.execution, generator)
    notes = [f"weights of {path}: {len(weights)} tensors"]
    if old_classes != classes:
        fresh = {key: value for key, value in model.state_dict().items() if key.startswith("classifier.")}
        weights |= fresh
        notes.append(f"the classifier of {old_classes} classes is replaced by a new one of {classes}")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip()
        raise InputError(f"{path} is not a whole DenseNet: {reason}") from error
    return model, notes
