"""The fused executions: modules in, one operator, statistics back into the modules.

Nothing here is computed: the operators are in `fused_operators`, what they do in `fused_block`,
`fused_transition` and the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from densenets.ops.fused.lean_stem import lean_stem_operator
from densenets.ops.fused.operators import dense_block_operator, transition_operator
from densenets.ops.fused.ranks import pixels_of_all_ranks
from densenets.ops.fused.stem import stem_operator
from densenets.ops.fused.unit import compute_type
from densenets.ops.layers import UnitModules, update_running_statistics
from densenets.ops.sync_batch_norm import SyncBatchNorm


def fused_dense_block(
    x: Tensor,
    chains: Sequence[Sequence[UnitModules]],
    transition: UnitModules | None = None,
    *,
    native: bool,
    keep_bottlenecks: bool,
    pool: bool = True,
) -> tuple[Tensor, Tensor]:
    """N x C0 x *sides -> N x (C0 + L k) x *sides and, behind a transition, N x M x *sides / 2; channels last.

    Args:
        x: the block's input.
        chains: the units of every layer, which are eligible.
        transition: the unit of the transition behind the block; its result is empty if there is none.
        native: compute in the native kernels, else in PyTorch's operations.
        keep_bottlenecks: store the bottleneck maps for the backward pass, else make them again.
        pool: whether the transition pools.
    """
    x = x.to(compute_type(x))
    units = [unit for chain in chains for unit in chain]
    every_unit = units if transition is None else [*units, transition]
    training, drop = units[0].norm.training, units[0].drop
    features, _, feature_moments, bottleneck_moments, reduced = dense_block_operator(
        x,
        _parameters(every_unit),
        [] if training else _running(every_unit),
        _dropout_masks(x, units, drop) if drop > 0 else [],
        [unit.norm.eps for unit in every_unit],
        drop,
        len(chains[0]),
        training,
        _synchronized(units[0]),
        transition is not None,
        pool,
        native,
        keep_bottlenecks and torch.is_grad_enabled(),
    )
    if training:
        factor = _unbiased_factor(x, synchronized=_synchronized(units[0]))
        feature_moments = _unbiased(feature_moments, factor)
        bottleneck_moments = _unbiased(bottleneck_moments, factor)
        # In the order of the data: the same module may stand in several places.
        for (first, *second), moments in zip(chains, bottleneck_moments, strict=True):
            update_running_statistics(first.norm, *feature_moments[:, : len(first.norm.weight)])
            if second:
                update_running_statistics(second[0].norm, *moments)
        if transition is not None:
            update_running_statistics(transition.norm, *feature_moments)
    return features, reduced


def fused_transition(x: Tensor, unit: UnitModules, *, native: bool, pool: bool) -> Tensor:
    """BN-ReLU-pool-conv1x1: N x C x *sides -> N x M x *sides / 2, or the same sides without `pool`."""
    x = x.to(compute_type(x))
    training = unit.norm.training
    result, moments = transition_operator(
        x,
        _parameters([unit]),
        [] if training else _running([unit]),
        unit.norm.eps,
        pool,
        training,
        _synchronized(unit),
        native,
    )
    if training:
        factor = _unbiased_factor(x, synchronized=_synchronized(unit))
        update_running_statistics(unit.norm, *_unbiased(moments, factor))
    return result


def fused_stem(x: Tensor, norm: _BatchNorm) -> Tensor:
    """BN-ReLU-max pooling, 3 wide, 2 apart: N x C x *sides -> N x C x *sides / 2."""
    x = x.to(compute_type(x))
    maxima, _, moments = stem_operator(x, norm.weight, norm.bias, _running_of_stem(norm), norm.eps)
    _update_stem(norm, x.numel() // x.shape[1], moments)
    return maxima


def fused_lean_stem(images: Tensor, conv: _ConvNd, norm: _BatchNorm, pixels: int) -> Tensor:
    """The same behind a convolution, whose result, N x C of so many pixels, isn't kept."""
    dtype = compute_type(images)
    maxima, moments = lean_stem_operator(
        images.to(dtype),
        conv.weight.to(dtype),
        norm.weight,
        norm.bias,
        _running_of_stem(norm),
        norm.eps,
        conv.stride,
        conv.padding,
    )
    _update_stem(norm, pixels, moments)
    return maxima


def _running_of_stem(norm: _BatchNorm) -> list[Tensor]:
    return [] if norm.training else [s for s in (norm.running_mean, norm.running_var) if s is not None]


def _update_stem(norm: _BatchNorm, pixels: int, moments: Tensor) -> None:
    if norm.training:
        update_running_statistics(norm, *_unbiased(moments, _unbiased_by(pixels)))


def _parameters(units: Sequence[UnitModules]) -> list[Tensor]:
    return [p for unit in units for p in (unit.norm.weight, unit.norm.bias, unit.conv.weight)]


def _running(units: Sequence[UnitModules]) -> list[Tensor]:
    statistics = [s for unit in units for s in (unit.norm.running_mean, unit.norm.running_var)]
    return [s for s in statistics if s is not None]


def _synchronized(unit: UnitModules) -> bool:
    return isinstance(unit.norm, SyncBatchNorm)


def _dropout_masks(x: Tensor, units: Sequence[UnitModules], drop: float) -> list[Tensor]:
    pixels = x.numel() // x.shape[1]
    return [
        torch.empty(pixels, unit.conv.out_channels, dtype=torch.uint8, device=x.device).bernoulli_(1 - drop)
        for unit in units
    ]


def _unbiased_factor(x: Tensor, *, synchronized: bool) -> float:
    """Of the variance of N x C x *sides, whose pixels may be those of all ranks; see `_unbiased_by`."""
    pixels = x.numel() // x.shape[1]
    return _unbiased_by(pixels_of_all_ranks(x, pixels) if synchronized else pixels)


def _unbiased_by(pixels: float) -> float:
    """What makes a variance divided by P one divided by P - 1; of a single pixel it is 0 as it is."""
    return pixels / max(pixels - 1, 1)


def _unbiased(moments: Tensor, factor: float) -> Tensor:
    """... x 2 x C, mean and variance, the variance times the factor."""
    mean, variance = moments.detach().unbind(-2)
    return torch.stack([mean, variance * factor], dim=-2)
