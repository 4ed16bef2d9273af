"""Whether a backend can run on this machine. Needs no PyTorch."""

from __future__ import annotations

from typing import NamedTuple


class Availability(NamedTuple):
    """Whether a backend can run on this machine.

    Attributes:
        available: whether it can run.
        reason: the instruction set or such that it would use; or why it cannot run.
    """

    available: bool
    reason: str
