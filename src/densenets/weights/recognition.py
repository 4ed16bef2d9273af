"""The DenseNet in a file of weights: its config, its state dict with torchvision's keys, each key's fate.

What weights do not say is found in their statistics, known of the program that wrote them, or asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from densenets.checkpoint import EXACT_DTYPES, shape_text
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet_config import DenseNetConfig, Stem
from densenets.weights.activations import other_activation
from densenets.weights.assembly import Assembly, assemble
from densenets.weights.formats.file_modules import NetworkFile, NewMaps
from densenets.weights.new_maps import Unknown, new_maps_by_statistics
from densenets.weights.ports import Port, known_port
from densenets.weights.structure import DenseNetLayers, NoDenseNet, compression_of, recognize


@dataclass(frozen=True, kw_only=True)
class Unsaid:
    """What files of weights do not say, as far as the user says it.

    Attributes:
        new_maps: where dense layers put their new maps; "auto" finds it out or asks.
        norm_epsilon: of the batch norms; 0 for the file's own, or the program's.
        activation: "relu" takes activations for ReLUs whatever the running statistics say.
    """

    new_maps: Literal["auto", "first", "last"] = "auto"
    norm_epsilon: float = 0.0
    activation: Literal["auto", "relu"] = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.norm_epsilon < 1:
            raise InputError(f"norm_epsilon must be from 0 (the file's own) to 1, got {self.norm_epsilon}")


@dataclass(frozen=True, kw_only=True)
class DenseNetWeights:
    """A DenseNet that was recognised in a file.

    Attributes:
        path: the file.
        form: the program that wrote it, for people.
        config: of the network; of 0 classes where the head is none of ours.
        weights: torchvision's key -> tensor.
        keys: each key of the file -> torchvision's; None for one that is not taken over as it is.
        counters_added: keys of `num_batches_tracked` that the file lacks, which begin at 0.
        unused: each key that is not taken over -> why.
        head: keys of a head that is not one linear layer; () where the head is taken, or there is none.
        notes: what was found out, and what was assumed, for people.
    """

    path: Path
    form: str
    config: DenseNetConfig
    weights: dict[str, Tensor]
    keys: dict[str, str | None]
    counters_added: tuple[str, ...]
    unused: dict[str, str]
    head: tuple[str, ...]
    notes: tuple[str, ...]


def recognized_densenet(
    file: NetworkFile, *, dropout: float = 0.0, unsaid: Unsaid | None = None
) -> DenseNetWeights:
    """The DenseNet in a file.

    Args:
        file: its layers.
        dropout: of the config, which weights do not show.
        unsaid: what the user says of the network.

    Raises:
        NoDenseNet: there is none, or not a whole one.
        InputError: a key is left over, a tensor is not held exactly by float32, or what weights do not say
            cannot be found out.
    """
    layers = recognize(file)
    if file.other_function:
        raise NoDenseNet(f"{file.path} computes another function than a DenseNet: {file.other_function}")
    all_keys = [key for module in file.modules for key in module.keys.values()]
    all_keys += [*file.unused, *file.others]
    port = known_port(all_keys)
    unsaid = unsaid or Unsaid()
    found = new_maps_by_statistics(layers)
    new_maps, maps_note = _choose_new_maps(file, found, port, unsaid)
    epsilon, epsilon_note = _choose_epsilon(file, port, unsaid)
    config = densenet_config(layers, file.path, dropout, epsilon)
    assembly = assemble(layers, config, new_maps, file.path)
    head = () if layers.classifier else tuple(key for module in layers.head for key in module.keys.values())
    unused = _unused(file, assembly, head)
    weights = _checked(file.path, config, assembly)
    if found in ("first", "last") and not file.in_order and unsaid.activation == "auto":
        _check_activation(file.path, config, weights)
    return DenseNetWeights(
        path=file.path,
        form=port.name if port else f"a program that is not known, by {file.program}",
        config=config,
        weights=weights,
        keys={key: assembly.keys.get(key) for key in all_keys},
        counters_added=tuple(assembly.added),
        unused=unused,
        head=head,
        notes=(
            *file.notes,
            maps_note,
            epsilon_note,
            *_taken_to_be(file, config),
            *_assembly_notes(layers, assembly),
        ),
    )


def densenet_config(
    layers: DenseNetLayers, path: Path, dropout: float = 0.0, norm_epsilon: float = 1e-5
) -> DenseNetConfig:
    """The config that follows from the shapes of a DenseNet's layers.

    Raises:
        NoDenseNet: no config has such shapes.
    """
    growth_rate, first = layers.blocks[0][0][-1].convolution.weight.shape[0], layers.blocks[0][0]
    width = first[0].convolution.weight.shape[0]
    if width % growth_rate:
        raise NoDenseNet(
            f"{path} holds no whole DenseNet: {width} channels of a bottleneck are no multiple of the "
            f"growth rate, {growth_rate}"
        )
    stem: Stem = "imagenet" if layers.stem.weight.shape[-1] == 7 else "cifar"
    return DenseNetConfig(
        block_layers=tuple(len(block) for block in layers.blocks),
        growth_rate=growth_rate,
        bottleneck=len(first) == 2,
        compression=compression_of(layers.transitions, path),
        stem=stem,
        stem_channels=layers.stem.weight.shape[0],
        bottleneck_width=width // growth_rate if len(first) == 2 else 4,
        dropout=dropout,
        norm_epsilon=norm_epsilon,
        num_classes=layers.classifier.weight.shape[0] if layers.classifier else 0,
        in_channels=layers.stem.channels,
        spatial_dims=layers.stem.weight.dim() - 2,
    )


def _choose_new_maps(
    file: NetworkFile, found: NewMaps | Unknown, port: Port | None, unsaid: Unsaid
) -> tuple[NewMaps, str]:
    """Where the file's dense layers put their new maps, and a note of how that is known.

    Args:
        file: whose graph may say it.
        found: what the running statistics say.
        port: the program that wrote it, where that is known.
        unsaid: what the user says.
    """
    if file.new_maps:
        return file.new_maps, f"new maps stand {file.new_maps} in its dense layers, as its graph says"
    if unsaid.new_maps != "auto":
        against = found in ("first", "last") and found != unsaid.new_maps
        warning = f"; its running statistics say {found}" if against else ""
        return unsaid.new_maps, f"new maps stand {unsaid.new_maps} in its dense layers, as given{warning}"
    if found == "first" or found == "last":
        permuted = ", and were permuted to stand last" if found == "first" else ""
        return found, f"new maps stand {found} in its dense layers, as its running statistics show{permuted}"
    tell_nothing = "are fresh" if found == "fresh" else "agree with neither way"
    if port is None:
        raise InputError(
            f"{file.path}: whether its dense layers put new maps before or behind the older ones cannot be "
            f"told, since its running statistics {tell_nothing}; give --new-maps first, or last, as in "
            "torch.cat([x, new])"
        )
    note = f"new maps stand {port.new_maps}, as in {port.name}; its running statistics {tell_nothing}"
    return port.new_maps, note


def _choose_epsilon(file: NetworkFile, port: Port | None, unsaid: Unsaid) -> tuple[float, str]:
    """The epsilon of the norms, and a note of how it is known."""
    if unsaid.norm_epsilon:
        return unsaid.norm_epsilon, f"epsilon of the batch norms: {unsaid.norm_epsilon:g}, as given"
    said = {module.epsilon for module in file.modules if module.epsilon is not None}
    if len(said) > 1:
        values = ", ".join(f"{value:g}" for value in sorted(said)[:3])
        raise InputError(
            f"{file.path}: its batch norms have several epsilons ({values}); a DenseNet here has one"
        )
    if said:
        (epsilon,) = said
        return epsilon, f"epsilon of the batch norms: {epsilon:g}, as the file says"
    if port:
        return port.epsilon, f"epsilon of the batch norms: {port.epsilon:g}, as in {port.name}"
    if file.program == "Keras":
        raise InputError(
            f"{file.path} does not say the epsilon of its norms; give --norm-epsilon, which is 1.001e-5 in "
            "keras.applications and 1e-3 in layers that say none"
        )
    note = "epsilon of the batch norms: 1e-05, PyTorch's, since the file says none (--norm-epsilon)"
    return 1e-5, note


def _unused(file: NetworkFile, assembly: Assembly, head: tuple[str, ...]) -> dict[str, str]:
    """Each key of the file that is not taken over as it is -> why.

    Raises:
        InputError: it is not known why.
    """
    unused = dict(file.unused)
    unused |= dict.fromkeys(assembly.biases, "a bias, in the norms that read it")
    unused |= dict.fromkeys(head, "of a head that is not one linear layer")
    keys = [key for module in file.modules for key in module.keys.values()]
    left_over = [key for key in (*file.others, *keys) if key not in assembly.keys and key not in unused]
    if left_over:
        more = f" (and {len(left_over) - 1} more)" if len(left_over) > 1 else ""
        raise InputError(
            f"{file.path}: {left_over[0]:.200}{more} is left over: no layer of a DenseNet has it; "
            "keep its own alone"
        )
    return unused


def _checked(path: Path, config: DenseNetConfig, assembly: Assembly) -> dict[str, Tensor]:
    """The state dict of the network, copied: a file may have tensors that share their memory.

    Raises:
        InputError: a tensor has another shape, a data type that is not held exactly, or numbers that it
            cannot have.
    """
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    file_keys = {ours: theirs for theirs, ours in assembly.keys.items()}
    weights = {}
    for key, like in expected.items():
        value, shown = assembly.weights[key], f"{file_keys.get(key, key):.200}"
        if value.shape != like.shape:
            raise NoDenseNet(
                f"{path}: {shown} is {shape_text(value.shape)}, where {shape_text(like.shape)} would fit"
            )
        if value.dtype not in EXACT_DTYPES[like.dtype]:
            names = [str(tensor.dtype).removeprefix("torch.") for tensor in (value, like)]
            raise InputError(
                f"{path}: {shown} is {names[0]}, which {names[1]} does not hold exactly; "
                f"save it as {names[1]}"
            )
        if not bool(value.isfinite().all()):
            raise InputError(f"{path}: {shown} has numbers that are NaN or infinite")
        if key.endswith(".running_var") and bool((value < 0).any()):
            raise InputError(f"{path}: {shown} has negative numbers, and is a variance")
        weights[key] = value.to(like.dtype, copy=True)
    return weights


def _taken_to_be(file: NetworkFile, config: DenseNetConfig) -> list[str]:
    """What weights do not show at all, for people; a graph does."""
    if file.in_order:
        return []
    stem = "a stem of stride 2 and max pooling" if config.stem == "imagenet" else "a stem of stride 1"
    return [f"not in weights, and taken to be the paper's: {stem}, average pooling"]


def _assembly_notes(layers: DenseNetLayers, assembly: Assembly) -> list[str]:
    notes = []
    if layers.classifier is not None and "bias" not in layers.classifier.tensors:
        notes.append(f"{layers.classifier.name}.bias is not there; the classifier's is 0")
    if assembly.biases:
        notes.append(f"{len(assembly.biases)} biases of convolutions went into the norms that read them")
    if assembly.folded:
        notes.append(
            f"{len(assembly.folded)} norms that were folded into convolutions only add a bias: predictions "
            "are the file's, and training would begin with other statistics"
        )
    return notes


def _check_activation(path: Path, config: DenseNetConfig, weights: Mapping[str, Tensor]) -> None:
    """Check that the activations are ReLUs, which weights do not show.

    Raises:
        NoDenseNet: the running statistics say that they are not.
    """
    if found := other_activation(config, weights):
        raise NoDenseNet(
            f"{path}: {found}; a DenseNet has ReLUs, and would compute something else with these weights "
            "(densenets convert --activation relu takes them for ReLUs all the same)"
        )
