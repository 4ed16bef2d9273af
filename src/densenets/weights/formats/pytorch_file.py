"""Reading of PyTorch's and safetensors' files of weights as layers.

The tensors of a layer are known by the ends of their keys (`weight`, `running_mean`, ...). Where keys have
no such ends, as after a renaming, they are known by their order, which is that of every state dict: weight,
bias, running mean, running variance, counter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from densenets.checkpoint import checkpoint_path, shape_text
from densenets.errors import InputError
from densenets.safetensors_files import read_safetensors
from densenets.torch_files import check_tensors, read_torch_file
from densenets.weights.formats.file_modules import FileModule, Kind, NetworkFile
from densenets.weights.formats.module_settings import notes_of, other_function
from densenets.weights.formats.state_dicts import StateDict, find_state_dict

_ROLES = {
    "weight": ("weight", "gamma", "scale", "kernel"),
    "bias": ("bias", "beta"),
    "running_mean": ("running_mean", "moving_mean", "mean"),
    "running_var": ("running_var", "moving_variance", "moving_var", "var", "variance"),
    "num_batches_tracked": ("num_batches_tracked",),
}
_ROLE_OF = {end: role for role, ends in _ROLES.items() for end in ends}
_NORM_ROLES = ("weight", "bias", "running_mean", "running_var")
_UNUSED = {
    # The number of averaged models (torch.optim.swa_utils), thop's counts.
    "left by a tool": re.compile(r"n_averaged|(?:.+\.)?total_(?:ops|params)"),
    # Of torchxrayvision, which scales probabilities by them.
    "thresholds behind the logits": re.compile(r"(?:.+\.)?op_threshs"),
}


def read_pytorch(path: Path) -> NetworkFile:
    """Read the layers in a file of `torch.save` or safetensors; no code in it is run.

    A whole network that was saved as objects is read as well; its classes are not imported.

    Raises:
        InputError: there is no such file, it is broken, would need code to be run, or holds no state dict.
    """
    metadata: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()
    if path.suffix == ".safetensors" or path.is_dir():
        tensors, metadata = read_safetensors(checkpoint_path(path))
        state = StateDict((), tensors)
    else:
        state, notes = find_state_dict(read_torch_file(path, objects=True), path)
    check_tensors(state.tensors.items(), checkpoint_path(path))
    for key, value in state.tensors.items():
        if value.is_complex():
            raise InputError(f"{path}: {key:.200} has complex numbers, which no network here has")
    file = state_dict_file(state, path)
    if state.network is None:
        return dataclasses.replace(file, metadata=metadata, notes=notes)
    return dataclasses.replace(
        file, notes=(*notes, *notes_of(state.network)), other_function=other_function(state.network)
    )


def state_dict_file(state: StateDict, path: Path) -> NetworkFile:
    """The layers of a state dict that was read from a file.

    Raises:
        InputError: a layer lacks a tensor, or has one too many.
    """
    unused = {key: reason for reason, keys in _UNUSED.items() for key in state.tensors if keys.fullmatch(key)}
    tensors = {key: value for key, value in state.tensors.items() if key not in unused}
    unused |= dict.fromkeys(state.beside, "no tensor")
    others: list[str] = []
    if _has_named_roles(tensors):
        modules = tuple(_modules_by_name(tensors, state.epsilons, others, path))
    else:
        modules = tuple(_modules_by_order(tensors, path))
    return NetworkFile(path=path, program="PyTorch", modules=modules, unused=unused, others=tuple(others))


def _has_named_roles(tensors: Mapping[str, Tensor]) -> bool:
    """Whether keys end in the names of roles, and most running means have a variance beside them."""
    means = [key for key in tensors if _split(key)[1] == "running_mean"]
    variances = {_split(key)[0] for key in tensors if _split(key)[1] == "running_var"}
    return 2 * sum(_split(key)[0] in variances for key in means) > len(means)


def _split(key: str) -> tuple[str, str | None]:
    """The module of a key, and the role of its tensor; None where the end of the key is no role's name."""
    module, _, end = key.rpartition(".")
    return module, _ROLE_OF.get(end)


def _modules_by_name(
    tensors: Mapping[str, Tensor], epsilons: Mapping[str, float], others: list[str], path: Path
) -> Iterator[FileModule]:
    groups: dict[str, dict[str, str]] = {}
    for key in tensors:
        module, role = _split(key)
        if role is None:
            others.append(key)
        elif role in groups.setdefault(module, {}):
            raise InputError(
                f"{path}: {groups[module][role]:.200} and {key:.200} are the same weight; keep one"
            )
        else:
            groups[module][role] = key
    for name, keys in groups.items():
        values = {role: tensors[key] for role, key in keys.items()}
        kind = _kind(values)
        if kind is None:
            if keys.keys() == {"bias"}:
                raise InputError(
                    f"{path} is not a whole network: {keys['bias']:.200} has no weight beside it"
                )
            others += keys.values()
            continue
        _check_roles(name, kind, values, path)
        yield FileModule(name=name, kind=kind, tensors=values, keys=keys, epsilon=epsilons.get(name))


def _kind(tensors: Mapping[str, Tensor]) -> Kind | None:
    """The kind of a layer with these tensors by role; None for one that a DenseNet does not have."""
    if tensors.keys() & {"running_mean", "running_var", "num_batches_tracked"}:
        return "norm"
    dims = tensors["weight"].dim() if "weight" in tensors else 0
    return "convolution" if dims in (3, 4, 5) else "linear" if dims == 2 else None


def _check_roles(name: str, kind: Kind, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that a layer has the tensors that belong together, in shapes that do."""
    needed: tuple[str, ...] = ("running_mean", "running_var") if kind == "norm" else ("weight",)
    if kind == "norm" and tensors.keys() & {"weight", "bias"}:
        needed = _NORM_ROLES  # one of them alone is as likely a lost one
    if missing := [role for role in needed if role not in tensors]:
        raise InputError(f"{path} is not a whole network: {name:.200}.{missing[0]} is missing")
    if kind == "norm":
        size = tensors["running_mean"].shape
        vectors = {role: value for role, value in tensors.items() if role in _NORM_ROLES}
    else:
        size = tensors["weight"].shape[:1]
        vectors = {role: value for role, value in tensors.items() if role == "bias"}
    if 0 in tensors[needed[0]].shape or len(size) != 1:
        raise InputError(
            f"{path}: {name:.200}.{needed[0]} is {shape_text(tensors[needed[0]].shape)}, which no layer has"
        )
    for role, value in vectors.items():
        if value.shape != size:
            raise InputError(
                f"{path}: {name:.200}.{role} is {shape_text(value.shape)}, where {size[0]} would fit it"
            )
    counter = tensors.get("num_batches_tracked")
    if counter is not None and counter.dim():
        raise InputError(
            f"{path}: {name:.200}.num_batches_tracked is {shape_text(counter.shape)}, where () would fit"
        )


@dataclass(frozen=True)
class _Run:
    """A weight with the vectors and counters that follow it in a state dict.

    Attributes:
        key: of the weight; None for what stands before the first one.
        vectors: keys of the vectors.
        counters: number of a vector -> keys of the counters right behind it.
    """

    key: str | None
    vectors: list[str]
    counters: dict[int, list[str]]


def _modules_by_order(tensors: Mapping[str, Tensor], path: Path) -> Iterator[FileModule]:
    """The layers by the order of their tensors; names are not looked at."""
    runs = [_Run(None, [], {})]
    for key, value in tensors.items():
        if value.dim() > 1:
            runs.append(_Run(key, [], {}))
        elif value.dim() == 1:
            runs[-1].vectors.append(key)
        else:
            runs[-1].counters.setdefault(len(runs[-1].vectors), []).append(key)
    for run in runs:
        yield from _modules_of_run(run, tensors, path)


def _modules_of_run(run: _Run, tensors: Mapping[str, Tensor], path: Path) -> Iterator[FileModule]:
    vectors, begin = run.vectors, 0
    if run.key is not None:
        weight = tensors[run.key]
        keys = {"weight": run.key}
        # Norms have four vectors each, so the one that is too many is the bias.
        if len(vectors) % 4 == 1 and tensors[vectors[0]].shape == weight.shape[:1]:
            keys["bias"], begin = vectors[0], 1
        kind = _kind({"weight": weight})
        if kind is None:
            raise InputError(f"{path}: {run.key:.200} is {shape_text(weight.shape)}, which no layer has")
        yield _module(run.key, kind, keys, tensors, path)
    counters = dict(run.counters)
    for first in range(begin, len(vectors), 4):
        keys = dict(zip(_NORM_ROLES, vectors[first : first + 4], strict=False))
        if counted := counters.pop(first + 4, []):
            keys["num_batches_tracked"] = counted.pop(0)
        if len(keys) < 4 or counted:
            raise InputError(
                f"{path}: what {vectors[first]:.200} is cannot be told by its place: a norm has four vectors "
                "and a counter, in the order of a state_dict()"
            )
        yield _module(vectors[first], "norm", keys, tensors, path)
    if counters:
        raise InputError(
            f"{path}: what {next(iter(counters.values()))[0]:.200} counts cannot be told by its place"
        )


def _module(
    name: str, kind: Kind, keys: dict[str, str], tensors: Mapping[str, Tensor], path: Path
) -> FileModule:
    values = {role: tensors[key] for role, key in keys.items()}
    _check_roles(name, kind, values, path)
    if kind == "norm" and bool((values["running_var"] < 0).any()):
        raise InputError(
            f"{path}: {keys['running_var']:.200} stands in the place of a variance, and is negative"
        )
    return FileModule(name=name, kind=kind, tensors=values, keys=keys)
