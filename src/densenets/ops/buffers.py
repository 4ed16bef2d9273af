"""Buffers of modules while they run once more: what a further pass changes in them is undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

Buffers = dict[str, Tensor | None]


def holders_of_buffers(modules: Iterable[nn.Module | None]) -> list[nn.Module]:
    """All modules inside of these, and they themselves, that have buffers."""
    return [m for module in modules if module is not None for m in module.modules() if m._buffers]


def copies_of_buffers(holders: Iterable[nn.Module]) -> list[Buffers]:
    """The buffers of each module, copied."""
    return [_copies(holder._buffers) for holder in holders]


@contextlib.contextmanager
def buffers_put_back(holders: list[nn.Module], start: list[Buffers]) -> Iterator[None]:
    """Let modules run with copies of buffers that they once had; afterwards they have their own."""
    own = [dict(holder._buffers) for holder in holders]
    for holder, buffers in zip(holders, start, strict=True):
        holder._buffers.update(_copies(buffers))
    try:
        yield
    finally:
        for holder, buffers in zip(holders, own, strict=True):
            holder._buffers.clear()
            holder._buffers.update(buffers)


def _copies(buffers: Buffers) -> Buffers:
    return {name: None if buffer is None else buffer.detach().clone() for name, buffer in buffers.items()}
