"""Pickles of `torch.save` without their classes: a dry run that constructs nothing, and inert stand-ins.

A checkpoint often holds more than weights: its trainer's arguments, numpy's numbers, or the whole network as
objects. Such a file is read without any of the classes that it names: each is replaced by a `StandIn`, which
keeps what the file says of the object and does nothing.
"""

from __future__ import annotations

import _codecs
import _compat_pickle
import builtins
import pickle
import types
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from densenets.errors import InputError

# Modules through which a pickle reaches the machine. Nothing of a stand-in runs, so nothing would happen; but
# a file that asks for one of them is no file of weights, and whoever got it should know.
_ACTING = {
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "importlib",
    "runpy",
    "socket",
    "ctypes",
    "pickle",
}

# The containers that PyTorch's unpickler makes.
_CONTAINERS = {"OrderedDict", "Counter", "set", "bytearray", "Size"}
# PyTorch's functions that make a dense tensor from its size and a part of the stored bytes.
_DENSE = {
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
}


class StandIn:
    """An object of a class that was not imported: its attributes are what the file has of it.

    Constructed with anything, and filled with anything, it does nothing with it but keep the attributes.
    """

    def __new__(cls, *_: object, **__: object) -> Any:
        """An object without attributes."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: object) -> None:
        """Keep the attributes of a state; ignore any other state."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update({name: part[name] for name in part if isinstance(name, str)})


class _Mapping(StandIn):
    """A stand-in for a kind of dict, which becomes a plain one."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


class _Sequence(StandIn):
    """A stand-in for a kind of list, which becomes a plain one."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return []


class DryRun(
    pickle._Unpickler
):  # not the one in C, which allocates as much memory as a number in the file says
    """An unpickler that goes through a pickle without constructing its objects.

    Attributes:
        names: what the pickle asks for, such as "argparse.Namespace" -> what is done with it.
        has_sources: it has classes with their source beside them, as whole networks of PyTorch before 1.6.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.names: dict[str, type[_Named]] = {}
        self.has_sources = False

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for a class or function."""
        if name in _CONTAINERS:
            return _inert_container
        if module == "torch._utils" and name not in _DENSE:
            raise pickle.UnpicklingError(f"{name} makes a tensor that is sparse, quantised or without values")
        full_name = _full_name(module, name)
        if full_name not in self.names:
            self.names[full_name] = type("_Named", (_Named,), {})
        return self.names[full_name]

    def persistent_load(self, pid: object) -> object:
        """The stand-in for a tensor's storage, or a class with its source."""
        if isinstance(pid, tuple) and pid and pid[0] == "module":
            self.has_sources = True
            return pid[1]
        return _Inert()


class _Inert:
    """An object of a dry run, which keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore the item."""

    def __call__(self, *_: object) -> _Inert:
        return self

    def append(self, _: object) -> None:
        """Ignore the value."""


class _Named(_Inert):
    """An object of a class that the pickle names, which notes how it is filled."""

    is_filled_as: type[StandIn] = StandIn

    def __setitem__(self, key: object, value: object) -> None:
        type(self).is_filled_as = _Mapping

    def append(self, _: object) -> None:
        """Note that it is a kind of list."""
        type(self).is_filled_as = _Sequence


def _inert_container(*arguments: object) -> _Inert:
    """A stand-in for a container, which may only be made of values that the pickle itself lists.

    From a number, or a tensor that repeats one value, PyTorch would make one as large as the file claims.
    """
    if not all(type(argument) in (list, tuple, dict, set, str, bytes) for argument in arguments):
        raise pickle.UnpicklingError("a container is made of something else than what is listed")
    return _Inert()


def stand_ins(run: DryRun) -> dict[str, type[StandIn]]:
    """Name -> stand-in of everything that a pickle asks for.

    Raises:
        InputError: it asks for a function of Python's own, or for a module that reaches the machine.
    """
    made: dict[str, type[StandIn]] = {}
    for full_name, used in run.names.items():
        module, _, name = full_name.rpartition(".")
        if module.partition(".")[0] in _ACTING or (
            module == "builtins" and not isinstance(getattr(builtins, name, None), type)
        ):
            raise InputError(
                f"it asks for {full_name:.100}, as no weights do; it was not loaded, "
                "since that could run code"
            )
        made[full_name] = type(
            name.rpartition(".")[2] or "StandIn", (used.is_filled_as,), {"__module__": module}
        )
    return made


def inert_pickle_module(classes: Mapping[str, type[StandIn]]) -> types.SimpleNamespace:
    """A `pickle_module` for `torch.load`, whose unpickler knows PyTorch's tensors and stand-ins alone.

    For files with the sources of their classes, which PyTorch's own restricted unpickler does not read.
    """

    class Unpickler(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> object:
            full_name = _full_name(module, name)
            if full_name in _TENSOR_PARTS:
                return _TENSOR_PARTS[full_name]
            if module == "torch._utils" and name in _DENSE:
                return getattr(torch._utils, name)
            if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
                return dtype
            if full_name in classes:
                return classes[full_name]
            raise pickle.UnpicklingError(f"{full_name} is not known")

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return types.SimpleNamespace(__name__="inert_pickle", Unpickler=Unpickler, load=load)


def _full_name(module: str, name: str) -> str:
    """The name of today's Python for one of a pickle's protocol 2, which has Python 2's."""
    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"


_TENSOR_PARTS: dict[str, Any] = {
    "builtins.bytearray": bytearray,
    "builtins.complex": complex,
    "builtins.set": set,
    "_codecs.encode": _codecs.encode,
    "collections.Counter": Counter,
    "collections.OrderedDict": OrderedDict,
    "torch.nn.parameter.Parameter": torch.nn.Parameter,
    "torch.Size": torch.Size,
    "torch.device": torch.device,
}
