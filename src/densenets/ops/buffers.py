"""Restoring the buffers of modules, such as running statistics, after a further forward pass."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

Buffers = dict[str, Tensor | None]


def modules_with_buffers(modules: Iterable[nn.Module | None]) -> list[nn.Module]:
    """The modules, among these and their submodules, that have buffers."""
    return [m for module in modules if module is not None for m in module.modules() if m._buffers]


def copy_buffers(holders: Iterable[nn.Module]) -> list[Buffers]:
    """Copies of each module's buffers."""
    return [_copies(holder._buffers) for holder in holders]


class RestoredBuffers:
    """A reusable context in which modules have copies of earlier buffers; after it, their own, unchanged.

    Args:
        holders: modules with buffers.
        start: each module's buffers inside the context.
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
