"""OpenVINO as it is used here: imported so that it reports nothing, and with one core a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

_TELEMETRY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """A context in which what is imported finds no telemetry package, and so reports nothing.

    OpenVINO and NNCF report imports and conversions to their makers unless the user has forbidden it, by
    processes that a thread forks in the background.
    """
    modules: dict[str, Any] = sys.modules  # where a None lets an import fail
    before = {name: module for name, module in modules.items() if name == _TELEMETRY}
    modules[_TELEMETRY] = None
    try:
        yield
    finally:
        del modules[_TELEMETRY]
        modules.update(before)


with without_telemetry():
    import openvino as openvino


@cache
def core() -> openvino.Core:
    """The core of this process, which lives as long as it does.

    Each core gives the main thread a stack for signals of its own, and takes it away as it goes; what it then
    puts back is the stack of the core before it, be that one gone. The next signal would crash the process.
    """
    return openvino.Core()


@contextmanager
def one_core() -> Iterator[None]:
    """A context in which other packages that ask for a core get that of `core`."""
    with mock.patch.object(openvino, "Core", core):
        yield
