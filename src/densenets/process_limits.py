"""Limits of memory and time that a process sets itself, before native code opens what may be hostile."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def limit_process(addresses: int, seconds: float | None = None) -> None:
    """Limit address space and processor time, and let a crash leave no file, where the system can do that.

    Args:
        addresses: bytes of address space.
        seconds: of processor time; None for any.
    """
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if seconds is not None:
            _set_soft_limit(resource.RLIMIT_CPU, int(seconds) + 1)
    if sys.platform == "linux":  # elsewhere addresses are not counted, or without effect
        _set_soft_limit(resource.RLIMIT_AS, addresses)


def allow_more_addresses(addresses: int) -> None:
    """Raise the limit of address space by so many bytes, if there is one."""
    if sys.platform == "linux":
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            _set_soft_limit(resource.RLIMIT_AS, soft + addresses)


if sys.platform != "win32":

    def _set_soft_limit(which: int, value: int) -> None:
        _, hard = resource.getrlimit(which)
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
