"""Buffers of modules while they run once more: what a further pass changes in them is undone."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

Buffers = dict[str, Tensor | None]


def holders_of_buffers(modules: Iterable[nn.Module | None]) -> list[nn.Module]:
    """All modules inside of these, and they themselves, that have buffers."""
    return [m for module in modules if module is not None for m in module.modules() if m._buffers]


def copies_of_buffers(holders: Iterable[nn.Module]) -> list[Buffers]:
    """The buffers of each module, copied."""
    return [_copies(holder._buffers) for holder in holders]


class BuffersPutBack:
    """A context, to be entered any number of times, after which modules have their own buffers, unchanged.

    Inside of it they have copies of the buffers that they once had.

    Args:
        holders: the modules.
        start: the buffers of each.
    """

    def __init__(self, holders: list[nn.Module], start: list[Buffers]) -> None:
        self.holders, self.start = holders, start
        self.own: list[Buffers] = []

    def __enter__(self) -> None:
        self.own = [dict(holder._buffers) for holder in self.holders]
        for holder, buffers in zip(self.holders, self.start, strict=True):
            holder._buffers.update(_copies(buffers))

    def __exit__(self, *_: object) -> None:
        for holder, buffers in zip(self.holders, self.own, strict=True):
            holder._buffers.clear()
            holder._buffers.update(buffers)
        self.own = []


def _copies(buffers: Buffers) -> Buffers:
    return {name: None if buffer is None else buffer.detach().clone() for name, buffer in buffers.items()}
