"""Conversion of another program's DenseNet weights to a checkpoint, with every key accounted for.

Each key of the file becomes one of the checkpoint, or it is said why not; each of the checkpoint comes from
one of the file. Only files older than PyTorch 0.4.1 lack BN's `num_batches_tracked`, which then begins at 0.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from densenets.checkpoint import save_checkpoint
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.adaptation import channels_note, inflated, with_channels, with_new_head
from densenets.weights.conventions import Normalization, choose_classes, choose_preprocessing, for_channels
from densenets.weights.pretrained import weights_file
from densenets.weights.published.manifest import PublishedWeights
from densenets.weights.reading import is_checkpoint, read_file
from densenets.weights.recognition import DenseNetWeights, Unsaid, recognized_densenet


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How a network is changed on the way; 0 leaves it as it is.

    Attributes:
        new_head: classes of a fresh classifier in place of the file's head.
        in_channels: channels of the images.
        spatial_dims: 3 makes a network for volumes from one for images.
    """

    new_head: int = 0
    in_channels: int = 0
    spatial_dims: int = 0

    def __post_init__(self) -> None:
        if min(self.new_head, self.in_channels, self.spatial_dims) < 0:
            raise InputError(
                "new_head, in_channels and spatial_dims must be at least 0, which changes nothing"
            )


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion: the new checkpoint, and how the file's keys became its keys.

    Attributes:
        form: the program that wrote the file, for people.
        keys: each of its keys -> the checkpoint's; None for one that is not taken over as it is.
        unused: each key that is not taken over -> why.
        counters_added: keys of `num_batches_tracked` that the file lacked, which begin at 0.
        config: the network.
        classes: names of the classes.
        preprocessing: from a picture to the network's input.
        notes: what was found out, assumed or changed, for people.
        checkpoint: the file that was written.
    """

    form: str
    keys: dict[str, str | None]
    unused: dict[str, str]
    counters_added: tuple[str, ...]
    config: DenseNetConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    checkpoint: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """A summary of the conversion, for people."""
        config = self.config
        taken = sum(ours is not None for ours in self.keys.values())
        first = f"{self.checkpoint}: {taken} of {len(self.keys)} keys of {self.form} are taken over"
        if self.counters_added:
            first += f"; {len(self.counters_added)} counters that they lack begin at 0"
        first_of: dict[str, str] = {}
        for key, reason in self.unused.items():
            first_of.setdefault(reason, key)
        left = [
            f"not taken over: {count}, such as {first_of[reason]:.100}, {reason}"
            for reason, count in Counter(self.unused.values()).items()
        ]
        network = (
            f"a DenseNet of depth {config.depth}, blocks of {', '.join(str(n) for n in config.block_layers)} "
            f"layers, growth rate {config.growth_rate}, {config.num_classes or 'no'} classes"
        )
        return (first, *left, network, *self.notes)

    @property
    def key_lines(self) -> tuple[str, ...]:
        """What became of every key of the file, a line each, for people."""
        return tuple(
            f"{key} -> {ours}" if ours else f"{key}: {self.unused[key]}" for key, ours in self.keys.items()
        )


def convert(
    source: Path,
    out: Path,
    *,
    data: str = "",
    normalization: Normalization | None = None,
    classes: tuple[str, ...] = (),
    unsaid: Unsaid | None = None,
    adaptation: Adaptation | None = None,
) -> Conversion:
    """Write a checkpoint of the DenseNet whose weights lie in a file of another program.

    Args:
        source: a file of PyTorch, safetensors, Keras or ONNX, in which no code is run; or the name of
            published weights that are on this machine.
        out: the checkpoint, *.safetensors.
        data: the named set that the network was trained on; "" if it is none.
        normalization: of the network's input, where it is not the set's.
        classes: names of the classes, in the order of the logits, where they are not the set's.
        unsaid: what the weights do not say of the network.
        adaptation: how the network is changed.

    Raises:
        InputError: the file cannot be read, holds no DenseNet, has a key too many or too few or of another
            shape, or is a checkpoint already; its graph has constants of its own for pixels; its head is not
            one linear layer, and no new one is asked for; classes or constants are unknown or do not fit; or
            `out` cannot be written.
    """
    source, published = weights_file(source)
    _check_names(source, out)
    file = read_file(source)
    if is_checkpoint(file):
        raise InputError(f"{source} is a checkpoint of densenets already; use it as it is")
    if file.normalizes and not data and not (normalization and normalization.mean):
        raise InputError(
            f"{source}: its graph normalises pixels by itself, which a checkpoint's preprocessing does; give "
            "its constants with --mean and --std, of pixels in 0 ... 1"
        )
    found = recognized_densenet(file, unsaid=unsaid)
    adaptation = adaptation or Adaptation()
    weights, config, changes = _adapted(found, adaptation)
    if published is not None and not classes and not adaptation.new_head:
        classes = tuple(name or f"untrained {number}" for number, name in enumerate(published.class_names()))
    names, class_note = choose_classes(config, data, classes)
    preprocessing, pixel_note = _preprocessing(found.config, config, published, data, normalization)
    replaced = _replaced_keys(found) if adaptation.new_head else []
    conversion = Conversion(
        form=found.form,
        keys=found.keys | dict.fromkeys(replaced),
        unused=found.unused | dict.fromkeys(replaced, "of the head that was replaced"),
        counters_added=found.counters_added,
        config=config,
        classes=names,
        preprocessing=preprocessing,
        notes=(*found.notes, *changes, class_note, pixel_note),
        checkpoint=out,
    )
    save_checkpoint(out, weights, config, names, preprocessing, _details(source, conversion))
    return conversion


def _check_names(source: Path, out: Path) -> None:
    """Check that the checkpoint's name is one, and not the file's own."""
    if out.suffix != ".safetensors":
        raise InputError(f"out must be a .safetensors file, such as {out.stem}.safetensors, got {out}")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out} is the file to be converted; give another name with --out")


def _replaced_keys(found: DenseNetWeights) -> list[str]:
    """The file's keys of the classifier."""
    head = f"{found.config.head}."
    return [key for key, ours in found.keys.items() if ours is not None and ours.startswith(head)]


def _adapted(
    found: DenseNetWeights, adaptation: Adaptation
) -> tuple[dict[str, Tensor], DenseNetConfig, list[str]]:
    """The weights and config, changed as asked for, and a note of each change."""
    weights, config, notes = found.weights, found.config, []
    if found.head and not adaptation.new_head:
        raise InputError(
            f"{found.path}: its head ({found.head[0]:.100}, ...) is not one linear layer that reads "
            f"{config.num_features} features; --new-head N puts a fresh one of N classes in its place"
        )
    if adaptation.new_head:
        replaced = f" in place of one of {config.num_classes} classes" if config.num_classes else ""
        replaced = " in place of one that is none of ours" if found.head else replaced
        notes.append(f"a fresh head of {adaptation.new_head} classes{replaced}")
        weights, config = with_new_head(weights, config, adaptation.new_head)
    if adaptation.in_channels and adaptation.in_channels != config.in_channels:
        notes.append(channels_note(config.in_channels, adaptation.in_channels))
        weights, config = with_channels(weights, config, adaptation.in_channels)
    if adaptation.spatial_dims and adaptation.spatial_dims != config.spatial_dims:
        notes.append(
            f"kernels of {config.spatial_dims} dimensions are repeated along the new one, and divided"
        )
        weights, config = inflated(weights, config, adaptation.spatial_dims)
    return weights, config, notes


def _preprocessing(
    theirs: DenseNetConfig,
    config: DenseNetConfig,
    published: PublishedWeights | None,
    data: str,
    normalization: Normalization | None,
) -> tuple[Preprocessing, str]:
    """The preprocessing of a network that was adapted from `theirs`, and a note of where it comes from."""
    normalization = normalization or Normalization()
    if normalization.mean and len(normalization.mean) == config.in_channels:
        return choose_preprocessing(config, data, normalization)
    if published is not None and not data and not normalization.mean:
        preprocessing, note = published.preprocessing, f"pixels are normalised as {published.package} does"
    else:
        same_dims = dataclasses.replace(theirs, spatial_dims=config.spatial_dims)
        preprocessing, note = choose_preprocessing(same_dims, data, normalization)
    if config.in_channels != theirs.in_channels:
        preprocessing = for_channels(preprocessing, config.in_channels)
        note += ", for the channels that it has now"
    return preprocessing, note


def _details(source: Path, conversion: Conversion) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "source": {
            "file": source.name,
            "sha256": digest,
            "form": conversion.form,
            "keys": len(conversion.keys),
            "not_taken_over": conversion.unused,
            "counters_added": len(conversion.counters_added),
        },
        "notes": list(conversion.notes),
    }
