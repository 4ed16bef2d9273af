"""Memory format of maps: fused operators compute in channels-last form, and return their input's form."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by dimensions, N x C x *sides


class MapFormat(NamedTuple):
    """The memory format in which a network is given its maps, and the one in which it computes.

    Attributes:
        given: of the maps and of their gradient, as the modules would keep it.
        computed: channels-last form; None for signals, whose operators take any.
    """

    given: torch.memory_format
    computed: torch.memory_format | None

    @classmethod
    def of(cls, x: Tensor) -> MapFormat:
        """The format of N x C x *sides; the contiguous one for maps that are in none."""
        computed = _CHANNELS_LAST.get(x.dim())
        if computed is None or not x.is_contiguous(memory_format=computed):
            return cls(torch.contiguous_format, computed)
        # A single channel is contiguous in both; the strides tell what it was made for, as PyTorch has it.
        made_for_last = not x.is_contiguous() or (x.shape[1] == 1 and x.stride(1) == 1 < x.stride(-2))
        return cls(computed if made_for_last else torch.contiguous_format, computed)

    def enter(self, x: Tensor) -> Tensor:
        """The maps in the operators' format; their gradient comes back in the given format."""
        in_form = self.computed is not None and x.is_contiguous(memory_format=self.computed)
        if in_form and self.given == self.computed:
            return x
        if x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            reformatted: Tensor = _Reformat.apply(x, self.computed, self.given)
            return reformatted
        return x if in_form or self.computed is None else x.contiguous(memory_format=self.computed)

    def leave(self, x: Tensor) -> Tensor:
        """Maps in the given format."""
        return x.contiguous(memory_format=self.given)


class _Reformat(torch.autograd.Function):
    """Bring maps into one memory format, and their gradient into another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, into: torch.memory_format | None, back: torch.memory_format) -> Tensor:
        ctx.back = back
        reformatted = x if into is None else x.contiguous(memory_format=into)
        return reformatted.view_as(reformatted) if reformatted is x else reformatted

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.contiguous(memory_format=ctx.back), None, None
