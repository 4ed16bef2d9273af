"""The dense block with activation checkpointing (Pleiss et al. 2017, arXiv 1707.06990).

The concatenation, BN and ReLU in front of a layer's first convolution are cheap to compute and costly to
store. They are not stored but recomputed in the backward pass: memory grows linearly with L.

The modules themselves run again, whatever they are, with their hooks, under PyTorch's own checkpointing. A
second run leaves no trace: it begins with the buffers that the first one began with, and restores those that
there were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densenets.ops.buffers import RestoredBuffers, copy_buffers, modules_with_buffers
from densenets.ops.interception import any_call_is_intercepted, is_intercepted
from densenets.ops.layers import BOTTLENECK_LAYER, PLAIN_LAYER, BlockClasses
from densenets.ops.reference import reference_dense_block


def recomputed_dense_block(x: Tensor, layers: Iterable[nn.Module], classes: BlockClasses) -> Tensor:
    """Run a dense block with checkpointing: N x C0 x *sides -> N x (C0 + L k) x *sides, as the reference.

    Of a layer that is exactly `DenseNet`'s the first convolution's result is stored, of any other layer
    nothing.
    """
    if not torch.is_grad_enabled():
        return reference_dense_block(x, layers)
    features = [x]
    is_intercepted_anywhere = any_call_is_intercepted()
    for layer in layers:
        if is_intercepted_anywhere or not _is_as_built(layer, classes):
            features.append(checkpoint_modules([layer], features))
        else:
            modules = list(layer._modules.values())
            features.append(_run_in_order(modules[3:], checkpoint_modules(modules[:3], features)))
    return torch.cat(features, dim=1)


def checkpoint_modules(modules: Sequence[nn.Module | None], features: Sequence[Tensor]) -> Tensor:
    """Run modules in order on concatenated maps; only the maps are stored for the backward pass."""
    if not torch.is_grad_enabled():
        return _concatenate_and_run(modules)(*features)
    if torch.compiler.is_compiling():
        # A compiled graph changes buffers once, whatever it recomputes.
        compiled: Tensor = checkpoint(_concatenate_and_run(modules), *features, use_reentrant=False)
        return compiled
    holders = modules_with_buffers(modules)
    before = copy_buffers(holders)

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), RestoredBuffers(holders, before)

    outputs: Tensor = checkpoint(
        _concatenate_and_run(modules), *features, use_reentrant=False, context_fn=contexts
    )
    return outputs


def _is_as_built(layer: nn.Module, classes: BlockClasses) -> bool:
    """Whether a layer's two halves compute what its forward computes, and no hook waits for its call."""
    return (
        type(layer) is classes.layer
        and not is_intercepted(layer)
        and tuple(layer._modules) == (BOTTLENECK_LAYER if layer.bottleneck else PLAIN_LAYER)
    )


def _concatenate_and_run(modules: Sequence[nn.Module | None]) -> Callable[..., Tensor]:
    def run(*features: Tensor) -> Tensor:
        return _run_in_order(modules, features[0] if len(features) == 1 else torch.cat(features, dim=1))

    return run


def _run_in_order(modules: Iterable[nn.Module | None], x: Tensor) -> Tensor:
    for module in modules:
        assert module is not None
        x = module(x)
    return x
