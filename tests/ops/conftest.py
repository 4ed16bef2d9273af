"""Fixtures of the tests of the fused executions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from densenets.ops.backends.cpp.library import native_state
from densenets.ops.execution import NativeState
from densenets.ops.fused import fusion


@pytest.fixture(params=["native", "pytorch"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether fused executions run in the native kernels, in turn, or in PyTorch's operations."""
    if request.param == "pytorch":
        monkeypatch.setattr(fusion, "_native", lambda: NativeState(None, "not built"))
    elif native_state().instruction_set is None:
        pytest.skip(native_state().missing)
    return request.param == "native"


@pytest.fixture
def fresh_memory_is_nan() -> Iterator[None]:
    """With deterministic algorithms PyTorch fills what `torch.empty` returns."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
