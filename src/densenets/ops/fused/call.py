"""Calls of the fused operators: parameters out of the modules, running statistics back into them.

The operators (`operators`, `stem`, `lean_stem`) and the backends compute. Each function returns the results
of its modules, the last one's last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.ops.backends.block_plan import BlockPlan
from densenets.ops.backends.unit import compute_type
from densenets.ops.fused.lean_stem import lean_stem_operator
from densenets.ops.fused.operators import dense_block_operator
from densenets.ops.fused.ranks import pixels_of_all_ranks
from densenets.ops.fused.stem import stem_operator
from densenets.ops.layers import UnitModules, update_running_statistics
from densenets.ops.sync_batch_norm import is_synchronized


def fused_dense_block(
    x: Tensor,
    layers: Sequence[Sequence[UnitModules]],
    transition: UnitModules | None = None,
    transition_pool: nn.Module | None = None,
    *,
    backend: str,
    keep_bottlenecks: bool,
) -> tuple[Tensor, ...]:
    """Run a dense block, a transition or both as one operator, and update their running statistics.

    Args:
        x: the block's input, N x C0 x *sides.
        layers: the units of every layer, which are eligible; none for a transition alone.
        transition: the unit of the transition behind the block.
        transition_pool: pools its result where there is dropout between the two; without dropout the
            operator pools, before the convolution.
        backend: name of the backend.
        keep_bottlenecks: store the bottleneck maps for the backward pass, else recompute them.

    Returns:
        Features, N x (C0 + L k) x *sides; with a transition its result, N x M x *sides / 2, as well. Both
        in channels-last form.
    """
    x = x.to(compute_type(x))
    block_units = [unit for layer in layers for unit in layer]
    units = block_units if transition is None else [*block_units, transition]
    training, dropout = units[0].norm.training, units[0].drop
    synchronized = is_synchronized(units[0].norm)
    pools = transition is not None and transition.drop == 0
    plan = BlockPlan(
        backend=backend,
        layer_units=len(layers[0]) if layers else 1,
        epsilons=tuple([unit.norm.eps for unit in units]),
        dropout=dropout,
        training=training,
        synchronized=synchronized,
        has_transition=transition is not None,
        transition_pools=pools,
        keep_bottlenecks=keep_bottlenecks and torch.is_grad_enabled(),
    )
    features, _, feature_moments, bottleneck_moments, reduced = dense_block_operator(
        x,
        [p for unit in units for p in (unit.norm.weight, unit.norm.bias, unit.conv.weight)],
        _running_statistics([unit.norm for unit in units]),
        _dropout_masks(x, block_units) if dropout > 0 else [],
        plan.epsilons,
        dropout,
        plan.text,
    )
    if training:
        _update_statistics(x, layers, transition, feature_moments, bottleneck_moments)
    if transition is None:
        return (features,)
    if not pools and transition_pool is not None:
        reduced = transition_pool(transition.dropout(reduced))
    return features, reduced


def fused_stem(x: Tensor, norm: _BatchNorm, *, backend: str) -> tuple[Tensor, ...]:
    """Run a stem's BN-ReLU-max pool (kernel 3, stride 2): N x C x *sides -> N x C x *sides / 2."""
    x = x.to(compute_type(x))
    maxima, _, moments = stem_operator(
        x, norm.weight, norm.bias, _running_statistics([norm]), norm.eps, backend
    )
    _update_stem(norm, x.numel() // x.shape[1], moments)
    return (maxima,)


def fused_lean_stem(
    images: Tensor, conv: _ConvNd, norm: _BatchNorm, pixels: int, *, backend: str
) -> tuple[Tensor, ...]:
    """Run a whole stem without storing the convolution's result, which has `pixels` pixels in the batch."""
    dtype = compute_type(images)
    maxima, moments = lean_stem_operator(
        images.to(dtype),
        conv.weight.to(dtype),
        norm.weight,
        norm.bias,
        _running_statistics([norm]),
        norm.eps,
        conv.stride,
        conv.padding,
        backend,
    )
    _update_stem(norm, pixels, moments)
    return (maxima,)


def _update_statistics(
    x: Tensor,
    layers: Sequence[Sequence[UnitModules]],
    transition: UnitModules | None,
    feature_moments: Tensor,
    bottleneck_moments: Tensor,
) -> None:
    """Update the running statistics of all batch normalisations by those of the batch.

    In the order of the forward pass: the same module may be in several places.
    """
    units = [*[unit for layer in layers for unit in layer], *([] if transition is None else [transition])]
    pixels: float = x.numel() // x.shape[1]
    if is_synchronized(units[0].norm):
        pixels = pixels_of_all_ranks(x, x.numel() // x.shape[1])
    feature_moments = _unbiased_moments(feature_moments, pixels)
    bottleneck_moments = _unbiased_moments(bottleneck_moments, pixels)
    for index, (first, *second) in enumerate(layers):
        update_running_statistics(first.norm, *feature_moments[:, : len(first.norm.weight)])
        if second:
            update_running_statistics(second[0].norm, *bottleneck_moments[index])
    if transition is not None:
        update_running_statistics(transition.norm, *feature_moments)


def _update_stem(norm: _BatchNorm, pixels: int, moments: Tensor) -> None:
    if norm.training:
        update_running_statistics(norm, *_unbiased_moments(moments, pixels))


def _running_statistics(norms: Sequence[_BatchNorm]) -> list[Tensor]:
    """Running mean and variance of each in turn; empty in training, where the batch's are used."""
    if norms[0].training:
        return []
    return [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]


def _dropout_masks(x: Tensor, units: Sequence[UnitModules]) -> list[Tensor]:
    pixels = x.numel() // x.shape[1]
    return [
        torch.empty(pixels, unit.conv.out_channels, dtype=torch.uint8, device=x.device).bernoulli_(
            1 - unit.drop
        )
        for unit in units
    ]


def _unbiased_moments(moments: Tensor, pixels: float) -> Tensor:
    """Means and variances, ... x 2 x C, with the variances divided by `pixels` - 1 in place of `pixels`."""
    mean, variance = moments.detach().unbind(-2)
    return torch.stack([mean, variance * (pixels / max(pixels - 1, 1))], dim=-2)
