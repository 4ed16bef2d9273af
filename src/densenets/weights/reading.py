"""Reading of weights from any safetensors or PyTorch file, and inference of the network's config.

A DenseNet's config is inferred from the weights themselves, checkpoints of this program describe their
network, and any other network has to be named. Keys may have any of the forms of `densenets.weights.keys`,
and prefixes that wrappers leave.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from densenets.checkpoint import FORMAT, checkpoint_path, read_checkpoint, read_safetensors, shape_text
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig, Stem
from densenets.models.network_config import NetworkConfig
from densenets.torch_files import check_tensors, read_torch_file
from densenets.weights.keys import FORMS, Renaming, rename_keys

_LAYER = re.compile(r"features\.denseblock([0-9]{1,4})\.denselayer([0-9]{1,4})\..+")
_CONVOLUTION_RANKS = (3, 4, 5)  # dimensions of a convolution's weight, of one, two or three spatial ones
_WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")


class UnfitWeight(InputError):  # noqa: N818 - it is an InputError, and reads as one
    """A weight is missing, or its shape is none that it can have in a DenseNet.

    Attributes:
        key: torchvision's name of it.
        reason: what is wrong with it, as the rest of a sentence that begins with the key.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the weights are not a whole DenseNet's: {key} {reason}")
        self.key = key
        self.reason = reason


@dataclass(frozen=True)
class WeightsFile:
    """The weights of a file, with torchvision's keys.

    Attributes:
        path: the file.
        weights: torchvision's key -> tensor.
        renaming: from the file's keys to torchvision's.
        metadata: of a safetensors file; else empty.
    """

    path: Path
    weights: dict[str, Tensor]
    renaming: Renaming
    metadata: dict[str, str]

    @property
    def is_ours(self) -> bool:
        """Whether the file is a checkpoint of this program."""
        return self.metadata.get("format") == FORMAT

    def densenet_config(self, dropout: float = 0.0) -> DenseNetConfig:
        """The config of the weights' DenseNet, with this dropout, which weights do not show.

        Raises:
            InputError: they are of no DenseNet, or not of a whole one.
        """
        if self.renaming.form is None:
            raise self.no_densenet()
        try:
            return infer_config(self.weights, dropout)
        except UnfitWeight as error:
            key = self.renaming.file_key(error.key)
            raise InputError(f"{self.path} is not a whole DenseNet: {key} {error.reason}") from error

    def no_densenet(self, advice: str = "") -> InputError:
        """The error for a file that should hold a DenseNet; `advice` is added to it."""
        begin = ", ".join(f"{key:.100}" for key in list(self.renaming.keys)[:3])
        forms = ", ".join(sorted(form.name for form in FORMS))
        return InputError(
            f"{self.path} holds no DenseNet in a form of keys that is known ({forms}); "
            f"its keys begin {begin}{advice}"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a DenseNet from a file, with torchvision's keys.

    Raises:
        InputError: there is no such file, it is broken, holds no DenseNet, or would need code to be run.
    """
    file = read_file(path)
    if file.renaming.form is None:
        raise file.no_densenet()
    return file.weights


def read_network(
    path: Path, named: NetworkConfig, dropout: float = 0.0
) -> tuple[dict[str, Tensor], NetworkConfig]:
    """Read the state dict in a file, and the config of its network.

    Args:
        path: the file, or a run's folder.
        named: the weights' network where neither they nor the file tell it.
        dropout: of a DenseNet's config, which weights do not show.

    Raises:
        InputError: there is no such file, it is broken, or would need code to be run; or the weights are of
            no DenseNet although one was named, or not of the network that was.
    """
    file = read_file(path)
    weights = file.weights
    if file.renaming.form:
        return weights, file.densenet_config(dropout)
    if file.is_ours:
        checkpoint = read_checkpoint(path)  # which checks the description before anything is built by it
        return checkpoint.model.state_dict(), checkpoint.model.config
    if isinstance(named, DenseNetConfig):
        raise file.no_densenet("; another network is named by --model.name")
    head = weights.get(f"{named.head}.weight")
    images = [value.shape[1] for value in weights.values() if value.dim() == 4]
    if head is None or not images:
        raise InputError(f"{path} holds no {named.title}: {named.head}.weight or a convolution is missing")
    if head.shape[1:2] != (named.num_features,) or not head.numel() or not images[0]:
        raise InputError(
            f"{path} holds no {named.title} of this name: {named.head}.weight is {shape_text(head.shape)}, "
            f"which does not read {named.num_features} channels"
        )
    return weights, dataclasses.replace(named, num_classes=head.shape[0], in_channels=images[0])


def infer_config(weights: Mapping[str, Tensor], dropout: float = 0.0) -> DenseNetConfig:
    """Infer a DenseNet's config from the names and shapes of its weights.

    Args:
        weights: a state dict with torchvision's keys.
        dropout: of the config, which weights do not show.

    Raises:
        UnfitWeight: a weight that the config follows from is missing, or has a shape of no DenseNet.
    """
    block_layers = _block_layers(weights)
    stem = _sizes(weights, "features.conv0.weight", _CONVOLUTION_RANKS)
    rank = (len(stem),)
    first = "features.denseblock1.denselayer1."
    # Any weight of a module shows that it exists, so that a lost one is reported as missing.
    bottleneck = _has(weights, first + "norm2.") or _has(weights, first + "conv2.")
    growth_rate = _sizes(weights, first + ("conv2.weight" if bottleneck else "conv1.weight"), rank)[0]
    width = _sizes(weights, first + "conv1.weight", rank)[0]
    if bottleneck and width % growth_rate:
        raise UnfitWeight(
            first + "conv1.weight",
            f"makes {width} channels; a bottleneck of a multiple of the growth rate k = {growth_rate} is needed",
        )
    stem_type: Stem = "imagenet" if _has(weights, "features.norm0.") else "cifar"
    return DenseNetConfig(
        block_layers=block_layers,
        growth_rate=growth_rate,
        bottleneck=bottleneck,
        compression=_compression(
            [
                _sizes(weights, f"features.transition{block}.conv.weight", rank)[:2]
                for block in range(1, len(block_layers))
            ]
        ),
        stem=stem_type,
        stem_channels=stem[0],
        bottleneck_width=width // growth_rate if bottleneck else 4,
        dropout=dropout,
        num_classes=_sizes(weights, "classifier.weight", (2,))[0],
        in_channels=stem[1],
        spatial_dims=len(stem) - 2,
    )


def _has(weights: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in weights)


def _sizes(weights: Mapping[str, Tensor], key: str, ranks: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a weight, checked to have one of these numbers of dimensions."""
    if key not in weights:
        raise UnfitWeight(key, "is missing")
    shape = tuple(weights[key].shape)
    if len(shape) not in ranks or 0 in shape:
        numbers = " or ".join(str(rank) for rank in ranks)
        raise UnfitWeight(key, f"has the shape {shape_text(shape)}; {numbers} sizes above 0 are needed")
    return shape


def _block_layers(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Number of layers of each block, checked that none is missing."""
    layers_of: dict[int, set[int]] = {}
    for key in weights:
        if match := _LAYER.fullmatch(key):
            layers_of.setdefault(int(match[1]), set()).add(int(match[2]))
    for block in range(1, max(layers_of, default=1) + 1):
        for layer in range(1, max(layers_of.get(block, set()), default=1) + 1):
            key = f"features.denseblock{block}.denselayer{layer}.conv1.weight"
            if key not in weights:
                raise UnfitWeight(key, "is missing")
    return tuple(max(layers_of[block]) for block in sorted(layers_of))


def _compression(transitions: Sequence[tuple[int, ...]]) -> float:
    """The compression theta with which every transition has floor(theta * in_channels) output channels."""
    theta: float | None = 1.0
    for block, (out_channels, in_channels) in enumerate(transitions, start=1):
        theta = _theta(transitions[:block])
        if theta is None:
            raise UnfitWeight(
                f"features.transition{block}.conv.weight",
                f"makes {out_channels} of {in_channels} channels; "
                "one compression for all transitions is needed",
            )
    assert theta is not None
    return theta


def _theta(transitions: Sequence[tuple[int, ...]]) -> float | None:
    # Each transition allows the thetas of [out / in, (out + 1) / in).
    lowest = max(out_channels / in_channels for out_channels, in_channels in transitions)
    highest = min((out_channels + 1) / in_channels for out_channels, in_channels in transitions)
    for theta in (1.0, 0.5, (lowest + highest) / 2):
        if theta <= 1 and all(
            math.floor(theta * in_channels) == out_channels for out_channels, in_channels in transitions
        ):
            return theta
    return None


def read_file(path: Path) -> WeightsFile:
    """Read the tensors of a file or a run's folder; a DenseNet's keys become torchvision's.

    Raises:
        InputError: there is no such file, it is broken, or would need code to be run; or two of its keys
            are the same weight.
    """
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors" or path.is_dir():
        weights, metadata = read_safetensors(checkpoint_path(path))
    else:
        weights = _read_pytorch(path)
    try:
        renaming = rename_keys(weights)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    renamed = {name: weights[key] for key, name in renaming.keys.items() if name is not None}
    for name, value in renamed.items():
        if value.is_complex():
            raise InputError(
                f"{path}: {renaming.file_key(name):.200} has complex numbers, which no network here has"
            )
    return WeightsFile(path, renamed, renaming, metadata)


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    content = read_torch_file(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path} holds no state dict (names and tensors)")
    check_tensors(content.items(), path)
    return content
