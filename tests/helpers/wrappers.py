"""A module around another one, as PyTorch's wrappers for checkpointing and sharding are."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Scaled(nn.Module):
    """Hands attributes on to the module inside, and scales what it makes."""

    def __init__(self, inner: nn.Module, factor: float = 3.0) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner(x)
