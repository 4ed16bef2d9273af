"""Checkpoints: one safetensors file that rebuilds its model, classes and preprocessing by itself.

DenseNets and ImageNet's ResNets have torchvision's keys and nothing else, so other programs read them too;
the network is described as JSON in the file's metadata. Reading one executes no code, and takes no more
memory than the file's own size: the description is checked first, then the names, shapes and types of the
weights, and only then are weights read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError, did_you_mean, nearest_names
from densenets.files import read_json, write_bytes
from densenets.finite import check_weights
from densenets.models.create import build_network
from densenets.models.network import CHANGED_MODULE, Network
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import config_from_dict
from densenets.ops.execution import Execution
from densenets.records import Reported
from densenets.safetensors_files import errors_of_reading, open_safetensors
from densenets.schema import parse_json, read

FORMAT = "densenets-1"  # "format" in the metadata of this program's files

Shape = tuple[int, ...]

# Data type of a weight -> types that a file may hold it as: those that it represents exactly.
EXACT_DTYPES = {
    torch.float32: (torch.float32, torch.bfloat16, torch.float16),
    torch.int64: (torch.int64, torch.int32),
}
_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
}


@dataclass(frozen=True)
class Description:
    """The metadata of a checkpoint: everything but the weights.

    Attributes:
        config: of the network.
        classes: names of the classes; logit i is that of classes[i].
        preprocessing: from a picture to the network's input.
        details: where it comes from (recipe, epoch, errors), for people to read.
    """

    config: NetworkConfig
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    details: dict[str, Any]

    def metadata(self, error_start: str) -> dict[str, str]:
        """The description as a file's metadata, from which `read_metadata` makes it again.

        Raises:
            InputError: the details are no JSON; `error_start` begins the error.
        """
        return {
            "model": json.dumps(self.config.to_dict()),
            "classes": json.dumps(self.classes),
            "preprocessing": json.dumps(self.preprocessing.to_dict()),
            "details": _details_text(self.details, f"{error_start}: the details are no JSON"),
        }

    def check_pictures(self, *, classify: bool = True) -> None:
        """Check that the network can classify pictures: it may also be one of signals or volumes.

        Args:
            classify: whether it has to have classes; features come without.

        Raises:
            InputError: the network reads no pictures, or larger ones than the preprocessing makes.
        """
        config, channels, size = self.config, self.preprocessing.channels, self.preprocessing.image_size
        if config.spatial_dims != 2 or channels not in (1, 3) or (classify and not self.classes):
            raise InputError(
                f"the network reads {config.spatial_dims} dimensions and {channels} channels and knows "
                f"{len(self.classes)} classes; pictures need 2 dimensions, 1 or 3 channels, and classes"
            )
        config.check_input((channels, size, size))


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and all that its use needs.

    Attributes:
        model: with its weights, in evaluation mode.
        classes: names of the classes; logit i is that of classes[i].
        preprocessing: from a picture to the network's input.
        details: where it comes from (recipe, epoch, errors), for people to read.
    """

    model: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    details: dict[str, Any]

    @property
    def description(self) -> Description:
        """All but the weights."""
        return Description(self.model.config, self.classes, self.preprocessing, self.details)

    def check_pictures(self, *, classify: bool = True) -> None:
        """Check that the network can classify pictures.

        Args:
            classify: whether it has to have classes; features come without.

        Raises:
            InputError: the network reads no pictures, or larger ones than the preprocessing makes.
        """
        self.description.check_pictures(classify=classify)

    @property
    def engine(self) -> str:
        """What runs the network, with its version, for people."""
        return f"torch {torch.__version__}"

    def network(self, device: torch.device) -> nn.Module:
        """The network on a device.

        Raises:
            NotFinite: weights are NaN or infinite.
        """
        check_weights(self.model)
        return self.model.to(device)


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    config: NetworkConfig,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
    details: dict[str, Any],
) -> None:
    """Write a checkpoint, atomically.

    Raises:
        InputError: the weights are not those of the network that `config` builds, as of a network that was
            changed; classes, preprocessing or details do not fit; the disk is full or the folder cannot be
            written. An older file is untouched.
    """
    changed = getattr(weights, "_metadata", {}).get("", {}).get(CHANGED_MODULE)
    if changed is not None:
        raise InputError(
            f"{path} was not written: {changed} is not what the network's config builds, and the checkpoint "
            "would be of another network; save a changed network's state_dict() with torch.save"
        )
    expected = _expected(config)
    if differing := _difference(_shapes(expected), _shapes(weights)):
        raise InputError(
            f"{path} was not written: the weights are not those of the network that its config builds; "
            f"{differing[0]} {differing[1]}; save a changed network's state_dict() with torch.save"
        )
    for key, value in weights.items():
        if (
            value.dtype not in EXACT_DTYPES[expected[key].dtype]
            or value.is_meta
            or value.layout != torch.strided
        ):
            raise InputError(
                f"{path} was not written: {key} is {_dtype_text(value)}, which is not held exactly by "
                f"{_dtype_text(expected[key])}; save it as that"
            )
    description = Description(config, classes, preprocessing, details)
    metadata = {"format": FORMAT, **description.metadata(f"{path} was not written")}
    read_metadata(metadata, f"{path} was not written")
    write_bytes(path, save(stored_tensors(weights), metadata))


def stored_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as files hold it: on the CPU, each tensor in the order of its dimensions."""
    return {key: value.detach().cpu().contiguous() for key, value in weights.items()}


def checkpoint_path(path: Path) -> Path:
    """The checkpoint file of a path: the path itself, or the checkpoint that a run's folder reports.

    Raises:
        InputError: there is neither.
    """
    if not path.is_dir():
        if path.exists():
            return path
        nearest = nearest_names(path.name, (other.name for other in path.parent.glob("*")))[:1]
        hint = did_you_mean([str(path.parent / name) for name in nearest])
        raise InputError(f"there is no run or checkpoint {path}" + (f"; {hint}" if hint else ""))
    recipe = path / "recipe.json"
    if not recipe.exists():
        raise InputError(f"{path} is no run's folder (it has no recipe.json); name a run or a checkpoint")
    what = f"{recipe} is no recipe of a run; it is broken or not ours"
    reported = read(Reported, read_json(recipe), what)["training"]["report"]
    if reported == "auto":  # there is a best one only where there are validation images to choose by
        reported = "best" if (path / "checkpoints" / "best.safetensors").exists() else "last"
    file = path / "checkpoints" / f"{reported}.safetensors"
    if not file.exists():
        raise InputError(f"the run {path} has no checkpoint yet; train it with --resume")
    return file


def read_checkpoint(path: str | Path, execution: Execution = "auto") -> Checkpoint:
    """Read the network of a run's folder or a checkpoint file, with its classes and preprocessing.

    Weights of bfloat16 or float16 become float32, which holds the same values.

    Raises:
        InputError: there is none, or it is truncated, or another program's, or its description and its
            weights do not fit each other.
    """
    file = checkpoint_path(Path(path))
    with open_safetensors(file) as content:
        description = _description(file, content)
        with torch.device("meta"):
            model = build_network(description.config, execution)
        expected = model.state_dict()
        _check_header(file, content, expected)
        with errors_of_reading(file):
            weights = {key: content.get_tensor(key).to(value.dtype) for key, value in expected.items()}
    model.load_state_dict(weights, assign=True)
    return Checkpoint(
        model=model.eval(),
        classes=description.classes,
        preprocessing=description.preprocessing,
        details=description.details,
    )


def read_description(path: str | Path) -> Description:
    """Read the description in a run's folder or a checkpoint file; the weights are not read.

    Raises:
        InputError: there is none, or it is truncated, or another program's.
    """
    file = checkpoint_path(Path(path))
    with open_safetensors(file) as content:
        return _description(file, content)


def load(path: str | Path, execution: Execution = "auto") -> Network:
    """The trained network of a run's folder or a checkpoint file, in evaluation mode.

    Raises:
        InputError: there is none, or it is truncated, or another program's.
    """
    return read_checkpoint(path, execution).model


def shape_text(shape: Sequence[int]) -> str:
    """A shape as people write it, such as 12x48x3x3."""
    return "x".join(str(size) for size in shape) or "()"


def _description(file: Path, content: Any) -> Description:
    """The description in a file, checked as far as that is possible without building the network."""
    with errors_of_reading(file):
        metadata, tensors = content.metadata() or {}, len(content.keys())
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{file} was not written by densenets (no network is described in it); weights of other "
            "programs come in with: densenets convert FILE --out CHECKPOINT"
        )
    description = read_metadata(metadata, f"{file} does not describe a network")
    # Each layer has a weight, so no more are built than the file has.
    depth = description.config.depth
    if depth > tensors:
        raise InputError(
            f"{file} does not fit its own description; a network of depth {depth} has more than "
            f"{tensors} tensors"
        )
    return description


def read_metadata(metadata: Mapping[str, str], error_start: str) -> Description:
    """The description in a file's metadata.

    Raises:
        InputError: something is missing, no JSON, or does not fit the rest; `error_start` begins the error.
    """
    fields: dict[str, Any] = {}
    for name in ("model", "classes", "preprocessing", "details"):
        if name not in metadata:
            raise InputError(f"{error_start}: the metadata have no {name}")
        fields[name] = parse_json(metadata[name], f"{error_start}: {name} is no JSON")
    try:
        description = Description(
            config=config_from_dict(read(dict, fields["model"], "model")),
            classes=read(tuple[str, ...], fields["classes"], "classes"),
            preprocessing=Preprocessing.from_dict(fields["preprocessing"]),
            details=read(dict[str, Any], fields["details"], "details"),
        )
    except InputError as error:
        raise InputError(f"{error_start}: {error}") from error
    config, classes, channels = description.config, description.classes, description.preprocessing.channels
    if len(classes) != config.num_classes:
        raise InputError(
            f"{error_start}: it has {len(classes)} names for {config.num_classes} classes; "
            "a name each is needed"
        )
    if channels != config.in_channels:
        raise InputError(
            f"{error_start}: the preprocessing makes images of {channels} channels; the network reads "
            f"{config.in_channels}"
        )
    return description


def _details_text(details: dict[str, Any], error_start: str) -> str:
    """The details as JSON that can be read again."""
    try:
        text = json.dumps(details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{error_start} ({error})") from error
    parse_json(text, error_start)  # nothing is written that could not be read again
    return text


def _expected(config: NetworkConfig) -> dict[str, Tensor]:
    """A network's state dict on the meta device: names, shapes and types, without memory."""
    with torch.device("meta"):
        return build_network(config).state_dict()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def _difference(expected: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """The first key in which two state dicts differ, and how; None if they are alike."""
    for key in {**expected, **shapes}:
        if key not in shapes:
            return key, "is missing"
        if key not in expected:
            return key, "is left over"
        if expected[key] != shapes[key]:
            return key, f"is {shape_text(shapes[key])} instead of {shape_text(expected[key])}"
    return None


def _check_header(file: Path, content: Any, expected: Mapping[str, Tensor]) -> None:
    """Check the names, shapes and types of a file's tensors before any of them is read."""
    with errors_of_reading(file):
        slices = {key: content.get_slice(key) for key in content.keys()}  # noqa: SIM118
        shapes: dict[str, Shape] = {key: tuple(value.get_shape()) for key, value in slices.items()}
        types = {key: str(value.get_dtype()) for key, value in slices.items()}
    if differing := _difference(_shapes(expected), shapes):
        key, how = differing
        raise InputError(f"{file} does not fit its own description; it differs in {key:.200}, which {how}")
    for key, dtype in types.items():
        if _DTYPES.get(dtype) not in EXACT_DTYPES[expected[key].dtype]:
            raise InputError(
                f"{file}: {key} is {dtype}, which {_dtype_text(expected[key])} does not hold exactly; "
                "save it as that"
            )


def _dtype_text(value: Tensor) -> str:
    """Layout and data type of a tensor, for errors."""
    plain = value.layout == torch.strided
    return ("" if plain else "sparse ") + str(value.dtype).removeprefix("torch.")
