"""The dense block with activation checkpointing (Pleiss et al. 2017, arXiv 1707.06990).

The concatenation and what stands in front of a layer's first convolution are cheap to compute and dear to
keep. They are not stored but made again in the backward pass: memory grows linearly with L.

It is the modules themselves that run again, whatever they are, with their hooks, under PyTorch's own
checkpointing. Of a second run nothing stays: it begins with the buffers that the first one began with, and
ends with those that there were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densenets.ops.buffers import BuffersPutBack, copies_of_buffers, holders_of_buffers
from densenets.ops.interception import calls_are_watched, is_intercepted
from densenets.ops.layers import BOTTLENECK_LAYER, PLAIN_LAYER, Kinds
from densenets.ops.reference import reference_dense_block


def recomputed_dense_block(x: Tensor, layers: Iterable[nn.Module], kinds: Kinds) -> Tensor:
    """N x C0 x *sides -> N x (C0 + L k) x *sides; the values of `reference_dense_block`.

    Of a layer that is what `DenseNet` builds the backward pass keeps the first convolution's result, of any
    other none.
    """
    if not torch.is_grad_enabled():
        return reference_dense_block(x, layers)
    features = [x]
    watched = calls_are_watched()
    for layer in layers:
        if watched or not _is_as_built(layer, kinds):
            features.append(recomputed([layer], features))
        else:
            modules = list(layer._modules.values())
            features.append(_in_turn(modules[3:], recomputed(modules[:3], features)))
    return torch.cat(features, dim=1)


def recomputed(modules: Sequence[nn.Module | None], features: Sequence[Tensor]) -> Tensor:
    """What modules, one after the other, make of concatenated maps, which the backward pass keeps alone."""
    if not torch.is_grad_enabled():
        return _on_concatenation(modules)(*features)
    if torch.compiler.is_compiling():
        # A compiled graph notes changes of buffers once, whatever it computes again.
        compiled: Tensor = checkpoint(_on_concatenation(modules), *features, use_reentrant=False)
        return compiled
    holders = holders_of_buffers(modules)
    before = copies_of_buffers(holders)

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), BuffersPutBack(holders, before)

    made: Tensor = checkpoint(_on_concatenation(modules), *features, use_reentrant=False, context_fn=contexts)
    return made


def _is_as_built(layer: nn.Module, kinds: Kinds) -> bool:
    """Whether a layer's halves do what its forward does, and nobody waits for a call of the layer."""
    return (
        type(layer) is kinds.layer
        and not is_intercepted(layer)
        and tuple(layer._modules) == (BOTTLENECK_LAYER if layer.bottleneck else PLAIN_LAYER)
    )


def _on_concatenation(modules: Sequence[nn.Module | None]) -> Callable[..., Tensor]:
    def run(*features: Tensor) -> Tensor:
        return _in_turn(modules, features[0] if len(features) == 1 else torch.cat(features, dim=1))

    return run


def _in_turn(modules: Iterable[nn.Module | None], x: Tensor) -> Tensor:
    for module in modules:
        assert module is not None
        x = module(x)
    return x
