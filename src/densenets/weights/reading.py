"""Reading of weights from a file of any program, as the state dict and config of a network here.

A DenseNet is recognised by its layers, checkpoints of this program describe their network, and any other
network has to be named.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from densenets.checkpoint import FORMAT, read_checkpoint, shape_text
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network_config import NetworkConfig
from densenets.weights.formats.file_modules import NetworkFile
from densenets.weights.formats.keras_file import read_keras
from densenets.weights.formats.onnx_file import read_onnx
from densenets.weights.formats.pytorch_file import read_pytorch
from densenets.weights.recognition import Unsaid, recognized_densenet
from densenets.weights.structure import NoDenseNet

_WRAPPERS = re.compile(r"^(?:module\.|model\.|_orig_mod\.|net\.|backbone\.)*")


@dataclass(frozen=True)
class NetworkWeights:
    """The weights of a network, for a module that is built from the config.

    Attributes:
        weights: a state dict; without the head's where the config has 0 classes.
        config: of the network; 0 classes where the file has no head that the network could have.
        notes: what was found out, and what was assumed, for people.
    """

    weights: dict[str, Tensor]
    config: NetworkConfig
    notes: tuple[str, ...] = ()


def read_file(path: Path) -> NetworkFile:
    """Read the layers in a file of weights of PyTorch, safetensors, Keras or ONNX; no code in it is run.

    Raises:
        InputError: there is no such file, it is broken, or would need code to be run; or a package that reads
            its format is not installed.
    """
    reader = _READERS.get(path.suffix.lower(), read_pytorch)
    return reader(path)


_READERS: Mapping[str, Callable[[Path], NetworkFile]] = {
    ".h5": read_keras,
    ".hdf5": read_keras,
    ".keras": read_keras,
    ".onnx": read_onnx,
}


def is_checkpoint(file: NetworkFile) -> bool:
    """Whether a file is a checkpoint of this program."""
    return file.metadata.get("format") == FORMAT


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a DenseNet from a file of any program, with torchvision's keys.

    Raises:
        InputError: there is no such file, it is broken, holds no DenseNet, or would need code to be run.
    """
    return recognized_densenet(read_file(path)).weights


def read_network(
    path: Path, named: NetworkConfig, dropout: float = 0.0, unsaid: Unsaid | None = None
) -> NetworkWeights:
    """Read the weights in a file, and the config of their network.

    Args:
        path: the file, or a run's folder.
        named: the weights' network where neither they nor the file tell it.
        dropout: of a DenseNet's config, which weights do not show.
        unsaid: of a DenseNet, what weights do not say.

    Raises:
        InputError: there is no such file, it is broken, or would need code to be run; or the weights are of
            no DenseNet although one was named, or not of the network that was.
    """
    file = read_file(path)
    if is_checkpoint(file):
        checkpoint = read_checkpoint(path)  # which checks the description before anything is built by it
        config = checkpoint.model.config
        if isinstance(config, DenseNetConfig):
            config = dataclasses.replace(config, dropout=dropout)
        return NetworkWeights(checkpoint.model.state_dict(), config)
    try:
        densenet = recognized_densenet(file, dropout=dropout, unsaid=unsaid)
    except NoDenseNet as error:
        if isinstance(named, DenseNetConfig):
            raise InputError(f"{error}; another network is named by --model.name") from error
        return _named_network(path, file, named)
    return NetworkWeights(densenet.weights, densenet.config, densenet.notes)


def _named_network(path: Path, file: NetworkFile, named: NetworkConfig) -> NetworkWeights:
    """The weights of a network that is no DenseNet, which has the names of its modules here."""
    names = {_WRAPPERS.sub("", module.name): module for module in file.modules}
    head = names.get(named.head)
    images = [module.channels for module in file.modules if module.kind == "convolution"]
    if head is None or head.kind != "linear" or not images:
        raise InputError(f"{path} holds no {named.title}: {named.head}.weight or a convolution is missing")
    if head.channels != named.num_features:
        raise InputError(
            f"{path} holds no {named.title} of this name: {named.head}.weight is "
            f"{shape_text(head.weight.shape)}, which does not read {named.num_features} channels"
        )
    weights = {
        f"{name}.{role}": value for name, module in names.items() for role, value in module.tensors.items()
    }
    config = dataclasses.replace(named, num_classes=head.weight.shape[0], in_channels=images[0])
    return NetworkWeights(weights, config)
