"""The way from a network to the C++ library."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from network_steps import case_config

import densenets
from densenets.models.densenet import DenseNet
from densenets.ops.backends.backend import CPP
from densenets.ops.backends.cpp import kernels

PACKAGE = Path(densenets.__file__).parent


def frames_of_the_package() -> list[str]:
    """Functions of this package that are running, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    names = []
    while frame is not None:
        if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names


class Watched:
    """The functions of the library; those of a block note who is on the way to them."""

    def __init__(self, functions: Any) -> None:
        self.functions = functions
        self.ways: dict[str, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.functions, name)
        if "block" in name:
            self.ways[name] = frames_of_the_package()
        return function


@pytest.mark.skipif(not CPP.availability().available, reason=CPP.availability().reason)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_block_is_six_functions_from_its_network(training: bool, monkeypatch: pytest.MonkeyPatch):
    watched = Watched(kernels._library_with_threads().functions)
    original = kernels.CppKernels.__init__

    def watch(self: kernels.CppKernels, instruction_set: str | None = None) -> None:
        original(self, instruction_set)
        self._functions = watched

    monkeypatch.setattr(kernels.CppKernels, "__init__", watch)
    model = DenseNet(case_config("large stem"), "fused").train(training)
    model(torch.randn(2, 3, 64, 64))
    way = watched.ways["densenets_block_forward"]
    assert way[0] == "CppKernels.block_forward"
    assert way[-1] == "DenseNet.forward"
    assert len(way) <= 6, way
