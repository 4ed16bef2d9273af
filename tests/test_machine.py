"""The machine in a line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from densenets import machine
from densenets.machine import kernels_and_device
from densenets.ops.backends.availability import Availability
from densenets.ops.backends.backend import CPP


@pytest.mark.parametrize(
    ("availability", "kernels"),
    [
        (Availability(True, "avx2"), "native kernels, avx2"),
        (Availability(False, "the native kernels were not built"), "the native kernels were not built"),
    ],
)
def test_kernels_and_device(availability: Availability, kernels: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "CPP", replace(CPP, availability=lambda: availability))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = kernels_and_device()
    assert found.startswith(f"{kernels}; ")
    assert found.endswith(" threads")
