"""Fixtures of the tests of the fused executions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP, EAGER


@pytest.fixture(params=["cpp", "eager"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the backend of fused executions: the C++ kernels and PyTorch's operations in turn."""
    if request.param == "eager":
        not_built = replace(CPP, availability=lambda: Availability(False, "not built"))
        monkeypatch.setattr(backend_module, "BACKENDS", (not_built, EAGER))
    elif not CPP.availability().available:
        pytest.skip(CPP.availability().reason)
    return request.param


@pytest.fixture
def fresh_memory_is_nan() -> Iterator[None]:
    """With deterministic algorithms PyTorch fills what `torch.empty` returns."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
