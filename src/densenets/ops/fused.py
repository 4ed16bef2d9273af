"""The fused executions: modules in, one operator, statistics back into the modules.

Nothing here is computed: the operators are in `fused_operators`, what they do in `fused_block`,
`fused_transition` and the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.ops.fused_operators import dense_block_operator, transition_operator
from densenets.ops.fused_stem import stem_operator
from densenets.ops.layers import DenseLayerModules, UnitModules, update_running_statistics
from densenets.ops.ranks import pixels_of_all_ranks
from densenets.ops.sync_batch_norm import SyncBatchNorm

_CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_EMPTY = "there is nothing in an empty batch"
_SINGLE_PIXEL = "a batch of a single pixel has no variance to normalise by"
_PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS = (*_PLAIN_NORMS, SyncBatchNorm)


def fused_dense_block(
    x: Tensor, layers: Sequence[DenseLayerModules], *, native: bool, keep_bottlenecks: bool
) -> Tensor:
    """N x C0 x *sides -> N x (C0 + L k) x *sides, in channels-last form.

    Args:
        x: the block's input.
        layers: which `obstacle` has nothing against.
        native: compute in the native kernels, else in PyTorch's operations.
        keep_bottlenecks: store the bottleneck maps for the backward pass, else make them again.
    """
    x = _in_autocast_type(x)
    units = [unit for layer in layers for unit in layer.units()]
    training, drop = units[0].norm.training, layers[0].drop
    features, _, feature_moments, bottleneck_moments = dense_block_operator(
        x,
        _parameters(units),
        [] if training else _running(units),
        _dropout_masks(x, units, drop) if drop > 0 else [],
        [unit.norm.eps for unit in units],
        drop,
        len(layers[0].units()),
        training,
        _synchronized(units[0]),
        native,
        keep_bottlenecks and torch.is_grad_enabled(),
    )
    if training:
        factor = _unbiased_factor(x, synchronized=_synchronized(units[0]))
        feature_moments = _unbiased(feature_moments, factor)
        bottleneck_moments = _unbiased(bottleneck_moments, factor)
        for index, layer in enumerate(layers):
            first, *second = layer.units()
            update_running_statistics(first.norm, *feature_moments[:, : first.norm.num_features])
            if second:
                update_running_statistics(second[0].norm, *bottleneck_moments[index])
    return features


def fused_transition(x: Tensor, unit: UnitModules, *, native: bool, pool: bool) -> Tensor:
    """BN-ReLU-pool-conv1x1: N x C x *sides -> N x M x *sides / 2, or the same sides without `pool`."""
    x = _in_autocast_type(x)
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
    x = _in_autocast_type(x)
    running = [] if norm.training else [s for s in (norm.running_mean, norm.running_var) if s is not None]
    maxima, _, moments = stem_operator(x, norm.weight, norm.bias, running, norm.eps)
    if norm.training:
        update_running_statistics(norm, *_unbiased(moments, _unbiased_factor(x, synchronized=False)))
    return maxima


def stem_obstacle(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> str | None:
    """Why the three modules behind the first convolution cannot be fused; None where they can."""
    if not isinstance(norm, _PLAIN_NORMS) or type(norm) not in _PLAIN_NORMS or _half_normalised(norm):
        return "its first normalisation is not a plain one of this process's batch"
    if type(relu) is not nn.ReLU or not isinstance(pool, _MAX_POOLS) or type(pool) not in _MAX_POOLS:
        return "it has another activation or pooling in its stem"
    if (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode) != (3, 2, 1, 1, False):
        return "it has another pooling in its stem"
    if x.numel() == 0:
        return _EMPTY
    if norm.training and x.numel() == x.shape[1]:
        return _SINGLE_PIXEL
    return "a module of its stem has hooks" if any(map(_hooked, (norm, relu, pool))) else None


def obstacle(x: Tensor, units: Sequence[UnitModules], modules: Sequence[nn.Module]) -> str | None:
    """Why some modules cannot be fused: they do something else than those that `DenseNet` makes.

    Args:
        x: what they read.
        units: their BN-ReLU-convolutions.
        modules: every module whose own forward would not be called.
    """
    training, synchronized = units[0].norm.training, _synchronized(units[0])
    if x.numel() == 0:
        return _EMPTY
    if training and not synchronized and x.numel() == x.shape[1]:
        return _SINGLE_PIXEL
    for norm, conv in units:
        if type(norm) not in _NORMS or type(conv) not in _CONVOLUTIONS:
            return f"it has a {type(norm).__name__} or a {type(conv).__name__} that it doesn't know"
        if _half_normalised(norm):
            return "it needs batch normalisation with scale, shift and running statistics"
        if norm.training != training or isinstance(norm, SyncBatchNorm) != synchronized:
            return "some of its batch normalisations are in training and others in evaluation"
        if not _plain(conv):
            return "it needs convolutions with kernels of 1 or 3, zero padding and no stride, groups or bias"
        if conv.weight.device != x.device:
            return f"its input is on {x.device}, its weights on {conv.weight.device}"
    for module in modules:
        if _hooked(module):
            return f"a {type(module).__name__} has hooks, which would not be called"
        if isinstance(module, nn.Dropout) and module.p > 0 and module.training != training:
            return "some of its modules are in training and others in evaluation"
    return None


def _half_normalised(norm: _BatchNorm) -> bool:
    return not (norm.affine and norm.track_running_stats and norm.momentum is not None)


def _plain(conv: nn.modules.conv._ConvNd) -> bool:
    dims = _CONVOLUTIONS[type(conv)]
    side = conv.kernel_size[0]
    return (
        side in (1, 3)
        and conv.kernel_size == (side,) * dims
        and conv.padding == (side // 2,) * dims
        and conv.stride == conv.dilation == (1,) * dims
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )


def _hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _in_autocast_type(x: Tensor) -> Tensor:
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def _parameters(units: Sequence[UnitModules]) -> list[Tensor]:
    return [p for norm, conv in units for p in (norm.weight, norm.bias, conv.weight)]


def _running(units: Sequence[UnitModules]) -> list[Tensor]:
    statistics = [s for norm, _ in units for s in (norm.running_mean, norm.running_var)]
    return [s for s in statistics if s is not None]


def _synchronized(unit: UnitModules) -> bool:
    return isinstance(unit.norm, SyncBatchNorm)


def _dropout_masks(x: Tensor, units: Sequence[UnitModules], drop: float) -> list[Tensor]:
    pixels = x.numel() // x.shape[1]
    return [
        torch.empty(pixels, conv.out_channels, dtype=torch.uint8, device=x.device).bernoulli_(1 - drop)
        for _, conv in units
    ]


def _unbiased_factor(x: Tensor, *, synchronized: bool) -> float:
    """What makes a variance divided by P one divided by P - 1."""
    pixels = x.numel() // x.shape[1]
    total = pixels_of_all_ranks(x, pixels) if synchronized else pixels
    return total / (total - 1)


def _unbiased(moments: Tensor, factor: float) -> Tensor:
    """... x 2 x C, mean and variance, the variance times the factor."""
    mean, variance = moments.detach().unbind(-2)
    return torch.stack([mean, variance * factor], dim=-2)
