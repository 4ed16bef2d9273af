"""Building of the network that a recipe trains, freshly initialised or from a file's weights."""

from __future__ import annotations

from pathlib import Path

import torch

from densenets.data.splits import DataSplits
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network import Network
from densenets.training.recipe import Recipe
from densenets.weights.adaptation import channels_note, with_channels
from densenets.weights.pretrained import weights_file
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
    path, _ = weights_file(path)
    found = read_network(path, recipe.model.config, recipe.model.dropout)
    weights, config = found.weights, found.config
    notes = [f"weights: {len(weights)} tensors of {path}", *found.notes]
    if config.in_channels != channels:
        if not isinstance(config, DenseNetConfig):
            raise InputError(
                f"{path} reads images of {config.in_channels} channels, the data has {channels}; "
                f"set --data.channels {config.in_channels}"
            )
        notes.append(channels_note(config.in_channels, channels))
        weights, config = with_channels(weights, config, channels)
    model = build_network(config.for_images(*images), recipe.model.execution, generator)
    if config.num_classes != classes:
        head = f"{config.head}."
        weights = weights | {key: value for key, value in model.state_dict().items() if key.startswith(head)}
        had = (
            f"of {config.num_classes} classes"
            if config.num_classes
            else "that is not one linear layer, or none,"
        )
        notes.append(f"the classifier {had} is replaced by a new one of {classes}")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip()
        raise InputError(f"{path} is not a whole {config.title}: {reason}") from error
    return model, notes
