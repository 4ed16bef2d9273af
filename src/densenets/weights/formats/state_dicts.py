"""The state dicts in the content of a PyTorch file: alone, below a trainer's keys, or of a whole network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from densenets.errors import InputError
from densenets.pickles import StandIn

# Trainers' names of the weights, in the order in which one of several is taken.
_NAMES = ("state_dict", "model_state_dict", "model", "weights", "net", "network", "params", "module")
_DEEPEST_MODULE, _MOST_MODULES = 50, 100_000
_DEEPEST = 4  # levels of a file below which no state dict is looked for


@dataclass(frozen=True)
class StateDict:
    """The tensors of a network.

    Attributes:
        place: the trainer's keys that lead to it; () where it is the whole file.
        tensors: name -> tensor, in the network's order.
        epsilons: name of a norm -> what it adds to the variance; of a whole network alone.
        network: the objects of the network, where the file holds these.
        beside: names of what stands between the tensors and is none, such as an epoch.
    """

    place: tuple[str, ...]
    tensors: dict[str, Tensor]
    epsilons: dict[str, float] = field(default_factory=dict)
    network: StandIn | None = None
    beside: tuple[str, ...] = ()


def find_state_dict(content: Any, path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """The state dict in the content of a file, and a note for people where there are several.

    Raises:
        InputError: there is none, or several, and none by a trainer's usual name.
    """
    try:
        found = list(_state_dicts(content, ())) or list(_state_dicts(content, (), mixed=True))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not found:
        raise InputError(f"{path} holds no state dict of a network (names and tensors of its layers)")
    if len(found) == 1:
        return found[0], ()
    places = [".".join(state.place) for state in found]
    for name in _NAMES:
        for state, place in zip(found, places, strict=True):
            if state.place[-1:] == (name,) and places.count(place) == 1:
                others = ", ".join(f"{other:.60}" for other in places if other != place)
                return state, (f"weights: {place} of the file, which also holds {others}",)
    raise InputError(
        f"{path} holds several state dicts ({', '.join(places):.300}); save the one that is meant alone"
    )


def _state_dicts(content: Any, place: tuple[str, ...], *, mixed: bool = False) -> Iterator[StateDict]:
    """The state dicts in a value; `mixed` are those with other values between their tensors."""
    if isinstance(content, StandIn):
        if "_modules" in vars(content):
            state = StateDict(place, {}, network=content)
            _collect(content, "", state, itertools.count())
            if _is_network(state.tensors):
                yield state
            return
        content = vars(content)
    if not isinstance(content, Mapping) or len(place) > _DEEPEST:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if (mixed or len(tensors) == len(content)) and _is_network(tensors):
        yield StateDict(place, tensors, beside=tuple(str(key) for key in content if key not in tensors))
        return
    for key, value in named.items():
        yield from _state_dicts(value, (*place, key), mixed=mixed)


def _is_network(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors may be a network's: they have a weight of some layer."""
    return any(value.dim() > 1 for value in tensors.values())


def _collect(module: StandIn, prefix: str, state: StateDict, number: Iterator[int]) -> None:
    """Add a module's parameters and buffers, in the order of `state_dict()`.

    Raises:
        InputError: modules hold each other, or more than any network has.
    """
    if prefix.count(".") > _DEEPEST_MODULE or next(number) > _MOST_MODULES:
        raise InputError("its modules hold each other without end")
    attributes = vars(module)
    not_saved = attributes.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(attributes.get(kind)):
            if isinstance(value, Tensor) and not (kind == "_buffers" and name in not_saved):
                state.tensors[prefix + name] = value
    epsilon = attributes.get("eps")
    if isinstance(epsilon, float) and "running_mean" in dict(_items(attributes.get("_buffers"))):
        state.epsilons[prefix.removesuffix(".")] = epsilon
    for name, child in _items(attributes.get("_modules")):
        if isinstance(child, StandIn):
            _collect(child, f"{prefix}{name}.", state, number)


def _items(content: Any) -> list[tuple[str, Any]]:
    return (
        [(key, value) for key, value in content.items() if isinstance(key, str)]
        if isinstance(content, Mapping)
        else []
    )
