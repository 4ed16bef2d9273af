"""Weights for other images than they were trained on: other channels, volumes; and fresh heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.initialization import linear_uniform_
from densenets.models.network import make_head

_STEM = "features.conv0.weight"


def with_channels(
    weights: Mapping[str, Tensor], config: DenseNetConfig, in_channels: int
) -> tuple[dict[str, Tensor], DenseNetConfig]:
    """A DenseNet for images of another number of channels, as timm adapts the first convolution.

    For one channel its kernels are summed over the channels: a grey image gives the maps of the same image in
    grey colour. For n they are repeated, and scaled by old channels / n, so that the sum over channels stays.

    Args:
        weights: a state dict with torchvision's keys.
        config: of its network.
        in_channels: of the images.
    """
    changed = dataclasses.replace(config, in_channels=in_channels)  # which checks the number first
    stem, channels = weights[_STEM], config.in_channels
    if in_channels == 1:
        adapted = stem.sum(dim=1, keepdim=True)
    else:
        repeats = -(-in_channels // channels)
        adapted = stem.repeat(1, repeats, *[1] * config.spatial_dims)[:, :in_channels] * (
            channels / in_channels
        )
    return {**weights, _STEM: adapted}, changed


def channels_note(old: int, new: int) -> str:
    """What `with_channels` does to the first convolution, for people."""
    how = "summed" if new == 1 else f"repeated, and scaled by {old}/{new}"
    return f"the first convolution's {old} channels are {how} for images of {new}"


def inflated(
    weights: Mapping[str, Tensor], config: DenseNetConfig, spatial_dims: int
) -> tuple[dict[str, Tensor], DenseNetConfig]:
    """A DenseNet for volumes from one for images (Carreira and Zisserman 2017, I3D).

    Each kernel is repeated along the new dimension and divided by its length there, so that a volume whose
    slices are all one image has that image's maps, away from its first and last slices.

    Args:
        weights: a state dict with torchvision's keys.
        config: of its network.
        spatial_dims: of the volumes.

    Raises:
        InputError: the network has more dimensions.
    """
    if spatial_dims < config.spatial_dims:
        raise InputError(
            f"weights of {config.spatial_dims} dimensions cannot become those of {spatial_dims}, only of more"
        )
    result = dict(weights)
    for _ in range(spatial_dims - config.spatial_dims):
        for key, value in result.items():
            if value.dim() > 2:
                side = value.shape[-1]
                result[key] = value.unsqueeze(2).repeat_interleave(side, dim=2) / side
    return result, dataclasses.replace(config, spatial_dims=spatial_dims)


def with_new_head(
    weights: Mapping[str, Tensor],
    config: DenseNetConfig,
    num_classes: int,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, Tensor], DenseNetConfig]:
    """A DenseNet with a fresh classifier in place of whatever it had.

    Args:
        weights: a state dict with torchvision's keys, with a classifier or without.
        config: of its network.
        num_classes: width of the new classifier.
        generator: where its weights are drawn from; PyTorch's own without one.
    """
    changed = dataclasses.replace(config, num_classes=num_classes)  # which checks the number first
    head = make_head(config.num_features, num_classes)
    if isinstance(head, nn.Linear):
        linear_uniform_(head, generator)
    name = f"{config.head}."
    kept = {key: value for key, value in weights.items() if not key.startswith(name)}
    fresh = {name + key: value for key, value in head.state_dict().items()}
    return kept | fresh, changed
