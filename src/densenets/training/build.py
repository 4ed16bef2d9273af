"""Building of the network that a recipe trains, freshly initialised or from a file's weights."""

from __future__ import annotations

from pathlib import Path

import torch

from densenets.data.splits import DataSplits
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.network import Network
from densenets.training.recipe import Recipe
from densenets.weights.reading import read_network


def build_model(recipe: Recipe, data: DataSplits, device: torch.device) -> tuple[Network, list[str]]:
    """Build a recipe's network for some data on a device; returns it, and notes about it for people.

    Raises:
        InputError: the name, the weights or the images do not fit.
    """
    generator = torch.Generator().manual_seed(recipe.training.seed)
    channels, classes, size = data.preprocessing.channels, len(data.classes), data.preprocessing.image_size
    if recipe.model.weights:
        model, notes = _from_weights(recipe.model.weights, recipe, (classes, channels, size), generator)
    else:
        config = recipe.model.config.for_images(classes, channels, size)
        model = build_network(config, recipe.model.execution, generator)
        notes = [
            f"weights: random, of seed {recipe.training.seed} (--model.weights begins with trained ones)"
        ]
    smallest = recipe.training.training_size(0)
    if smallest is not None and smallest < model.config.smallest_size:
        raise InputError(
            f"progressive_sizes must be at least {model.config.smallest_size} pixels for this network, "
            f"got {smallest}"
        )
    return model.to(device), notes


def _from_weights(
    path: Path, recipe: Recipe, images: tuple[int, int, int], generator: torch.Generator
) -> tuple[Network, list[str]]:
    classes, channels, _ = images
    weights, config = read_network(path, recipe.model.config, recipe.model.dropout)
    if config.in_channels != channels:
        raise InputError(
            f"{path} reads images of {config.in_channels} channels, the data has {channels}; "
            f"set --data.channels {config.in_channels}"
        )
    model = build_network(config.for_images(*images), recipe.model.execution, generator)
    notes = [f"weights: {len(weights)} tensors of {path}"]
    if config.num_classes != classes:
        head = f"{config.head}."
        weights |= {key: value for key, value in model.state_dict().items() if key.startswith(head)}
        notes.append(f"the classifier of {config.num_classes} classes is replaced by a new one of {classes}")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip()
        raise InputError(f"{path} is not a whole {config.title}: {reason}") from error
    return model, notes
