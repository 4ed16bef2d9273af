"""Reading of the DenseNets in Keras' files: HDF5 of its versions 2 and 3, and archives (.keras).

Keras' tensors become PyTorch's: a kernel is O x I x *kernel, not *kernel x I x O, and a norm's gamma, beta,
moving_mean and moving_variance are its weight, bias, running_mean and running_var.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from densenets.errors import InputError
from densenets.extras import require
from densenets.schema import parse_json
from densenets.weights.formats.file_modules import FileModule, Kind, NetworkFile
from densenets.weights.formats.keras_config import ConfigLayer, check_function, config_layers, new_maps
from densenets.weights.formats.native_content import Hdf5Content
from densenets.weights.formats.native_files import file_size, read_natively

_ZIP = b"PK\x03\x04"  # how an archive begins
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"  # of an archive
_MOST_CONFIG = 64 * 2**20  # bytes; a DenseNet's has one million
_MOST_COPIES, _ALLOWANCE = 4, 2**20  # as of other files: an archive's parts are together not much larger

_ROLES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_KINDS: Mapping[str, Kind] = {
    **{f"Conv{dims}D": "convolution" for dims in (1, 2, 3)},
    "BatchNormalization": "norm",
    "SyncBatchNormalization": "norm",
    "Dense": "linear",
}
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
# Groups that Keras puts around the layers of a model, in which they are called by their classes.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_CLASSES = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in _KINDS}
_OTHER_CLASSES = re.compile(r"(?:depthwise|separable|embedding|einsum|.+_normalization|.+_transpose)\w*")
_STATE = re.compile(r"(?:optimizer(?:_weights)?|metrics|seed_generator|.*_tracker)/.*")


@dataclass(frozen=True, kw_only=True)
class _FileLayer:
    """A layer as a file has it: its tensors by Keras' names, or by numbers where it only counts them."""

    name: str
    tensors: dict[str, str]  # Keras' name or number of a tensor -> its key
    config: ConfigLayer | None
    class_name: str | None


def read_keras(path: Path) -> NetworkFile:
    """Read the layers of a Keras file, in the order of its config where it has one.

    Raises:
        InputError: h5py is not installed; there is no such file, or it is broken, or refers to other files; a
            layer is quantised or cannot be told; or the config says that it computes no DenseNet's function.
    """
    require("keras", f"reading {path}")
    file_size(path)
    with path.open("rb") as file:
        is_archive = file.read(len(_ZIP)) == _ZIP
    config: object = None
    if is_archive:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / _WEIGHTS
            config = _unpack(path, weights)
            content, arrays = read_natively(weights, "hdf5", Hdf5Content, name=path)
    else:
        content, arrays = read_natively(path, "hdf5", Hdf5Content)
        if texts := content.attributes.get("", {}).get("model_config"):
            config = parse_json(texts[0], f"{path}: its model_config is not readable", non_finite=True)
    try:
        return _network_file(path, content, arrays, config_layers(config))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _unpack(path: Path, weights: Path) -> object:
    """Unpack the weights of an archive to a file, and return its config."""
    error_start = f"{path} is not a whole .keras file"
    try:
        with zipfile.ZipFile(path) as archive:
            allowed = _MOST_COPIES * path.stat().st_size + _ALLOWANCE
            if sum(entry.file_size for entry in archive.infolist()) > allowed:
                raise InputError(f"{path}: its parts are together much larger than the file")
            if archive.getinfo(_CONFIG).file_size > _MOST_CONFIG:
                raise InputError(f"{path}: its config is larger than {_MOST_CONFIG >> 20} MiB")
            config = archive.read(_CONFIG)
            # No more than the archive's directory says is unpacked of a part.
            with archive.open(_WEIGHTS) as packed, weights.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
    except InputError:
        raise
    except Exception as error:  # zipfile and zlib raise anything over damaged files
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{error_start} ({said:.200})") from error
    return parse_json(config, f"{error_start}: its config cannot be read", non_finite=True)


def _network_file(
    path: Path, content: Hdf5Content, arrays: Sequence[Tensor], config: Sequence[ConfigLayer]
) -> NetworkFile:
    tensors = {own.name: arrays[own.array] for own in content.datasets if own.array is not None}
    root = (
        "model_weights"
        if any("layer_names" in name for name in content.attributes.get("model_weights", {}))
        else ""
    )
    is_version_2 = bool(_names(content, root, "layer_names"))
    layers = (
        _named_layers(content, root, config) if is_version_2 else _counted_layers(content, tensors, config)
    )
    if config:
        places = {layer.name: place for place, layer in enumerate(config)}
        last = len(places)
        layers.sort(key=lambda layer: last if layer.config is None else places[layer.config.name])
    modules: list[FileModule] = []
    unused: dict[str, str] = {}
    others: list[str] = []
    _check_keys(layers, tensors)
    for layer in layers:
        found = _module(layer, tensors)
        if found is not None:
            modules.append(found)
        else:
            others += layer.tensors.values()
    used = {key for module in modules for key in module.keys.values()}
    for own in content.datasets:
        if own.name not in used and own.name not in others:
            if _STATE.fullmatch(own.name):
                unused[own.name] = "of the optimiser or of what was measured"
            else:
                others.append(own.name)
    check_function(config)
    return NetworkFile(
        path=path,
        program="Keras",
        modules=tuple(modules),
        unused=unused,
        others=tuple(others),
        new_maps=new_maps(config),
    )


def _check_keys(layers: Sequence[_FileLayer], tensors: Mapping[str, Tensor]) -> None:
    """Check that each layer has tensors of its own, and that they are there."""
    seen: set[str] = set()
    for key in (key for layer in layers for key in layer.tensors.values()):
        if key not in tensors:
            raise InputError(f"{key:.200} is missing")
        if key in seen:
            raise InputError(f"{key:.200} stands in two layers")
        seen.add(key)


def _names(content: Hdf5Content, group: str, attribute: str) -> list[str]:
    """A list of names in a group's attributes, which Keras cuts into several where it is long."""
    texts = content.attributes.get(group, {})
    parts = [texts[attribute]] if attribute in texts else []
    while f"{attribute}{len(parts)}" in texts:
        parts.append(texts[f"{attribute}{len(parts)}"])
    return [name for part in parts for name in part]


def _named_layers(content: Hdf5Content, root: str, config: Sequence[ConfigLayer]) -> list[_FileLayer]:
    """Layers of version 2's files, which name every layer and tensor (`conv1/bn/gamma:0`)."""
    by_name = {layer.name: layer for layer in config}
    layers = []
    for layer_name in _names(content, root, "layer_names"):
        group = f"{root}/{layer_name}" if root else layer_name
        own: dict[str, dict[str, str]] = {}
        for tensor_name in _names(content, group, "weight_names"):
            prefix, _, role = tensor_name.rpartition("/")
            own.setdefault(prefix, {})[role.partition(":")[0]] = f"{group}/{tensor_name}"
        for prefix, keys in own.items():
            # A model inside of the model is one layer with the tensors of many.
            name = layer_name if len(own) == 1 else prefix
            known = by_name.get(name) or by_name.get(name.rpartition("/")[2])
            class_name = known.class_name if known else None
            layers.append(_FileLayer(name=name, tensors=keys, config=known, class_name=class_name))
    return layers


def _counted_layers(
    content: Hdf5Content, tensors: Mapping[str, Tensor], config: Sequence[ConfigLayer]
) -> list[_FileLayer]:
    """Layers of version 3's files, which count layers by class and tensors by number (`conv2d_3/vars/0`)."""
    groups: dict[str, dict[str, str]] = {}
    for key in sorted(tensors, key=_natural_order):
        if (match := re.fullmatch(r"(.+)/vars/([0-9]+)", key)) and not _STATE.fullmatch(key):
            groups.setdefault(match[1], {})[match[2]] = key
    by_name = {layer.name: layer for layer in config}
    by_place = {layer.place: layer for layer in config}
    layers = []
    for group, keys in groups.items():
        place = tuple(part for part in group.split("/") if part not in _CONTAINERS)
        # Later versions of Keras write the name as well.
        said = next(iter(content.attributes.get(f"{group}/vars", {}).get("name", [])), None)
        known = by_name.get(said) if said else None
        known = known or by_place.get(place)
        class_name = known.class_name if known else _class_of_group(place[-1] if place else "")
        name = known.name if known else said or "/".join(place)
        layers.append(_FileLayer(name=name, tensors=keys, config=known, class_name=class_name))
    return layers


def _class_of_group(group: str) -> str | None:
    """The class that a group is named after; None if it has a name of its own."""
    stem = re.sub(r"_[0-9]+$", "", group)
    return _CLASSES.get(stem, stem if _OTHER_CLASSES.fullmatch(stem) else None)


def _module(layer: _FileLayer, tensors: Mapping[str, Tensor]) -> FileModule | None:
    """A layer as PyTorch has it; None for one that no DenseNet has."""
    if layer.class_name is not None and layer.class_name not in _KINDS:
        return None
    shapes = [tuple(tensors[key].shape) for key in layer.tensors.values()]
    roles = _counted_roles(layer, shapes) if "0" in layer.tensors else tuple(layer.tensors)
    kind = _kind(roles, shapes)
    if kind is None or (layer.class_name and _KINDS[layer.class_name] != kind):
        return None
    found: dict[str, Tensor] = {}
    for role, key in zip(roles, layer.tensors.values(), strict=True):
        value = tensors[key]
        if not value.is_floating_point():
            raise InputError(
                f"{key:.200} is {value.dtype}: it is quantised; save the network as it was before"
            )
        found[_ROLES[role]] = _permuted(value) if role == "kernel" else value
    return FileModule(
        name=layer.name,
        kind=kind,
        tensors=found,
        keys={_ROLES[role]: key for role, key in zip(roles, layer.tensors.values(), strict=True)},
        epsilon=layer.config.epsilon if layer.config and kind == "norm" else None,
    )


def _counted_roles(layer: _FileLayer, shapes: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Keras' names of tensors that a file only counts."""
    is_norm = layer.class_name is not None and _KINDS[layer.class_name] == "norm"
    if is_norm or (len(shapes) == len(_NORM) and len(set(shapes)) == 1):
        roles = layer.config.norm_roles if layer.config else _NORM if len(shapes) != 2 else _NORM[2:]
        if len(roles) != len(shapes):
            raise InputError(
                f"the norm {layer.name:.200} has {len(shapes)} tensors, and the file does not say which; "
                "save the whole model as .keras"
            )
        return roles
    return ("kernel", "bias")[: len(shapes)]


def _kind(roles: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> Kind | None:
    """What layer has these tensors; None for one that no DenseNet has."""
    sizes = dict(zip(roles, shapes, strict=False))
    if len(sizes) < len(shapes):
        return None
    if sizes.keys() in ({"kernel"}, {"kernel", "bias"}):
        rank = len(sizes["kernel"])
        vectors = [shape for role, shape in sizes.items() if role == "bias"]
        if all(shape == sizes["kernel"][-1:] for shape in vectors):
            return "convolution" if rank in (3, 4, 5) else "linear" if rank == 2 else None
    if {"moving_mean", "moving_variance"} <= sizes.keys() <= set(_NORM):
        return "norm" if len(set(shapes)) == 1 and len(shapes[0]) == 1 else None
    return None


def _permuted(kernel: Tensor) -> Tensor:
    """A kernel of *sizes x I x O as one of O x I x *sizes."""
    return kernel.permute(-1, -2, *range(kernel.dim() - 2)).contiguous()


def _natural_order(key: str) -> list[tuple[int, int, str]]:
    """A key to sort by, in which conv2d_2 comes before conv2d_10."""
    parts = re.split(r"([0-9]+)", key)
    return [(0, int(part[:18]), part) if part.isdigit() else (1, 0, part) for part in parts]
