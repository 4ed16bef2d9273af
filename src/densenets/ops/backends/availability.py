"""Whether a backend can run on this machine. Needs no PyTorch."""

from __future__ import annotations

from typing import NamedTuple


class Availability(NamedTuple):
    """Whether a backend can run on this machine.

    Attributes:
        available: whether it can.
        reason: what it would run with, such as an instruction set; or why it cannot.
    """

    available: bool
    reason: str
