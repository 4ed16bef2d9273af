"""Networks by name, freshly initialised or with weights: published ones by their name, or any file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet_config import DenseNetConfig, Stem
from densenets.models.network import Network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import NETWORKS, named_config
from densenets.ops.execution import Execution
from densenets.weights.adaptation import inflated, with_channels, with_new_head
from densenets.weights.published.caches import find_weights, torch_hub_folder
from densenets.weights.published.download import download as fetch
from densenets.weights.published.manifest import PUBLISHED, PublishedWeights, published_weights
from densenets.weights.reading import read_network

_FIELDS = {field.name for field in dataclasses.fields(DenseNetConfig)}
# Fields of a config that weights follow: the images, the classes, and what weights do not show.
_ADAPTED = ("num_classes", "in_channels", "spatial_dims", "dropout")


def list_models() -> list[str]:
    """Names of networks for `create_model`, in alphabetical order; it also knows those of the rules."""
    return sorted(NETWORKS)


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    download: bool = False,
    weights_folder: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    execution: Execution = "auto",
    block_layers: tuple[int, ...] | None = None,
    growth_rate: int | None = None,
    bottleneck: bool | None = None,
    compression: float | None = None,
    stem: Stem | None = None,
    stem_channels: int | None = None,
    bottleneck_width: int | None = None,
    dropout: float | None = None,
    norm_epsilon: float | None = None,
    spatial_dims: int | None = None,
    generator: torch.Generator | None = None,
) -> Network:
    """Build a named network, such as "densenet121", "densenet-bc-100-12" or "resnet50".

    Any other field of a `DenseNetConfig` can be given; None leaves the network's or the weights' value. With
    weights, other classes give a fresh classifier, other channels and dimensions adapted kernels.

    Args:
        name: one of `list_models()`, or one by the rules, such as densenet[-b|-c|-bc]-DEPTH-GROWTH.
        weights: published weights by their name, such as "torchvision" or "timm/densenet121.ra_in1k", or a
            file of any program; None initialises freshly.
        download: fetch published weights that are not on this machine, instead of raising.
        weights_folder: where published weights are looked for first, and kept.
        num_classes: 10 for CIFAR's networks and 1000 for ImageNet's unless given.
        in_channels: 3 unless given; 1 for X-rays and most volumes.
        execution: how the dense blocks run; the weights never show it.
        generator: where the initial weights are drawn from.

    Raises:
        InputError: a name or the execution is unknown, the network has no such field, a value is out of its
            range, the weights are not on this machine, or they are of another network.
    """
    # The parameters that are fields of a config, by their own names.
    given = {field: value for field, value in locals().items() if field in _FIELDS and value is not None}
    named = named_config(name)
    if unknown := given.keys() - {field.name for field in dataclasses.fields(named)}:
        raise InputError(f"{name} is a {named.title}, which has no {min(unknown)}")
    config = dataclasses.replace(named, **given)
    if weights is None:
        return build_network(config, execution, generator)
    path = _file_of(weights, name, download, weights_folder)
    state, config = _weights_for(path, config, given, generator)
    model = build_network(config, execution, generator)
    model.load_state_dict(state)
    return model


def _file_of(weights: str | Path, network: str, download: bool, folder: str | Path | None) -> Path:
    if Path(weights).exists():
        return Path(weights)
    try:
        entry = published_weights(str(weights), network)
    except InputError as error:
        if Path(weights).suffix:
            raise InputError(f"there is no weights file {weights}") from error
        raise
    return published_file(entry, download, Path(folder) if folder else None)


def weights_file(source: Path) -> tuple[Path, PublishedWeights | None]:
    """The file of a path, or of published weights by their name, and their entry in the manifest.

    Raises:
        InputError: published weights are not on this machine.
    """
    entry = None if source.exists() else PUBLISHED.get(str(source))
    return (source, None) if entry is None else (published_file(entry), entry)


def published_file(entry: PublishedWeights, download: bool = False, folder: Path | None = None) -> Path:
    """The file of published weights on this machine.

    Args:
        entry: of the manifest.
        download: fetch it if it is not there.
        folder: where it is looked for first, and kept; torch hub's own if not given.

    Raises:
        InputError: it is not there and is not to be fetched, or cannot be; or its checksum is wrong.
    """
    found = find_weights(entry, folder)
    if found is not None:
        return found
    if not download:
        raise InputError(
            f"{entry.name} is not on this machine; densenets weights {entry.name} --download fetches it"
        )
    return fetch(entry, folder or torch_hub_folder())


def _weights_for(
    path: Path, config: NetworkConfig, given: dict[str, Any], generator: torch.Generator | None
) -> tuple[dict[str, torch.Tensor], NetworkConfig]:
    """The weights of a file, adapted to the fields that were given, and their network's config."""
    found = read_network(path, config, getattr(config, "dropout", 0.0))
    if not isinstance(found.config, DenseNetConfig) or not isinstance(config, DenseNetConfig):
        if found.config != config:
            raise InputError(f"{path} is of another {config.title} than was named")
        return found.weights, found.config
    state, theirs = found.weights, found.config
    wanted = dataclasses.replace(theirs, **given)
    for field in dataclasses.fields(config):
        is_free = field.name in _ADAPTED or (field.name == "norm_epsilon" and field.name not in given)
        named, own = getattr(config, field.name), getattr(theirs, field.name)
        if not is_free and named != own:
            raise InputError(
                f"{path} is of another network than was named: its {field.name} is {own}, not {named}"
            )
    if wanted.num_classes != theirs.num_classes:
        state, theirs = with_new_head(state, theirs, wanted.num_classes, generator)
    if wanted.in_channels != theirs.in_channels:
        state, theirs = with_channels(state, theirs, wanted.in_channels)
    if wanted.spatial_dims != theirs.spatial_dims:
        state, theirs = inflated(state, theirs, wanted.spatial_dims)
    return state, theirs
