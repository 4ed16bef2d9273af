"""Conversion of another program's DenseNet weights to a checkpoint, with every key accounted for.

Each key of the file becomes one of the checkpoint or is known to hold no weight; each of the checkpoint
comes from one of the file. Only files older than PyTorch 0.4.1 lack BN's `num_batches_tracked`, which then
begins at 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densenets.checkpoint import EXACT_DTYPES, save_checkpoint, shape_text
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.models.create import build_network
from densenets.models.densenet_config import DenseNetConfig
from densenets.weights.conventions import Normalization, choose_classes, choose_preprocessing
from densenets.weights.keys import BATCH_COUNTER
from densenets.weights.reading import WeightsFile, read_file


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion: the new checkpoint, and how the file's keys became its keys.

    Attributes:
        form: name of the form of the file's keys.
        keys: each of its keys -> the checkpoint's; None for one that is known to hold no weight.
        counters_added: keys of `num_batches_tracked` that the file lacked, which begin at 0.
        config: the network.
        classes: names of the classes.
        preprocessing: from a picture to the network's input.
        notes: where names and preprocessing come from, for people.
        checkpoint: the file that was written.
    """

    form: str
    keys: dict[str, str | None]
    counters_added: tuple[str, ...]
    config: DenseNetConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    checkpoint: Path

    @property
    def lines(self) -> tuple[str, ...]:
        """A summary of the conversion, for people."""
        unused = [key for key, renamed in self.keys.items() if renamed is None]
        config = self.config
        first = f"{self.checkpoint}: {len(self.keys)} keys of the form {self.form}"
        if unused:
            first += f", {len(unused)} of which carry nothing ({unused[0]}, ...)"
        if self.counters_added:
            first += f"; {len(self.counters_added)} counters that they lacked begin at 0"
        network = (
            f"a DenseNet of depth {config.depth}, {_blocks(config)}, growth rate {config.growth_rate}, "
            f"{config.num_classes} classes"
        )
        return (first, network, *self.notes)


def convert(
    source: Path,
    out: Path,
    *,
    data: str = "",
    normalization: Normalization | None = None,
    classes: tuple[str, ...] = (),
) -> Conversion:
    """Write a checkpoint of the DenseNet whose weights lie in a file of another program.

    Args:
        source: a PyTorch or safetensors file; no code in it is run.
        out: the checkpoint, *.safetensors.
        data: the named set that the network was trained on; "" if it is none.
        normalization: of the network's input, where it is not the set's.
        classes: names of the classes, in the order of the logits, where they are not the set's.

    Raises:
        InputError: the file cannot be read, holds no DenseNet, has a key too many or too few or of another
            shape, or is a checkpoint already; classes or constants are unknown or do not fit; or `out`
            cannot be written.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"out must be a .safetensors file, such as {out.stem}.safetensors, got {out}")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out} is the file to be converted; give another name with --out")
    file = read_file(source)
    if file.is_ours:
        raise InputError(f"{source} is a checkpoint of densenets already; use it as it is")
    config = file.densenet_config()
    weights, added = _checked_weights(file, config)
    names, class_note = choose_classes(config, data, classes)
    preprocessing, pixel_note = choose_preprocessing(config, data, normalization or Normalization())
    assert file.renaming.form is not None
    conversion = Conversion(
        form=file.renaming.form.name,
        keys=file.renaming.keys,
        counters_added=added,
        config=config,
        classes=names,
        preprocessing=preprocessing,
        notes=(class_note, pixel_note),
        checkpoint=out,
    )
    save_checkpoint(out, weights, config, names, preprocessing, _details(source, conversion))
    return conversion


def _details(source: Path, conversion: Conversion) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "source": {
            "file": source.name,
            "sha256": digest,
            "form": conversion.form,
            "keys": len(conversion.keys),
            "without_content": [key for key, renamed in conversion.keys.items() if renamed is None],
            "counters_added": len(conversion.counters_added),
        },
        "notes": list(conversion.notes),
    }


def _checked_weights(file: WeightsFile, config: DenseNetConfig) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict of the network, and the keys of BN's counters that the file lacked.

    Raises:
        InputError: a key is left over or missing, or its tensor has another shape or data type.
    """
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    counters = tuple(key for key in expected if key.endswith(f".{BATCH_COUNTER}"))
    # Old files have no counters at all; where some exist, an absent one was lost.
    added = () if any(key in file.weights for key in counters) else counters
    if left_over := [key for key in file.weights if key not in expected]:
        raise InputError(
            f"{_first(file, left_over)} is left over: a DenseNet of {_blocks(config)} has no such weight; "
            "keep its own alone"
        )
    if missing := [key for key in expected if key not in file.weights and key not in added]:
        raise InputError(f"{_first(file, missing)} is missing; save the network's whole state_dict()")
    if misshaped := [key for key, value in file.weights.items() if value.shape != expected[key].shape]:
        shape, fitting = (shape_text(tensors[misshaped[0]].shape) for tensors in (file.weights, expected))
        raise InputError(f"{_first(file, misshaped)} is {shape}, where {fitting} would fit the other weights")
    if inexact := [
        key for key, value in file.weights.items() if value.dtype not in EXACT_DTYPES[expected[key].dtype]
    ]:
        dtype, fitting = (
            str(tensors[inexact[0]].dtype).removeprefix("torch.") for tensors in (file.weights, expected)
        )
        raise InputError(
            f"{_first(file, inexact)} is {dtype}, which {fitting} does not hold exactly; save it as {fitting}"
        )
    # Copied, since a file of weights may have tensors that share their memory.
    weights = {
        key: file.weights[key].to(expected[key].dtype, copy=True) for key in expected if key not in added
    }
    return weights | {key: torch.zeros((), dtype=torch.int64) for key in added}, added


def _first(file: WeightsFile, keys: Sequence[str]) -> str:
    """The file, the first of some keys under the file's name, and the number of others, for errors."""
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return f"{file.path}: {file.renaming.file_key(keys[0]):.200}{more}"


def _blocks(config: DenseNetConfig) -> str:
    return f"blocks of {', '.join(str(layers) for layers in config.block_layers)} layers"
