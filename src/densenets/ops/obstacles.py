"""Why modules cannot be fused: they do something else than those that `DenseNet` makes.

Each function returns the end of a sentence, or None where nothing stands in the way. What PyTorch's own
modules would refuse is an obstacle too: with "auto" it is they who refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from densenets.ops.kernels import accumulation_type, compute_type
from densenets.ops.layers import DenseLayerModules, TransitionModules, UnitModules
from densenets.ops.sync_batch_norm import SyncBatchNorm

# By the dimensions of what they read.
_NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_TRANSITION_POOLS: dict[int, _AvgPoolNd] = {3: nn.AvgPool1d(2), 4: nn.AvgPool2d(2), 5: nn.AvgPool3d(2)}
_STEM_POOLS: dict[int, _MaxPoolNd] = {
    3: nn.MaxPool1d(3, 2, 1),
    4: nn.MaxPool2d(3, 2, 1),
    5: nn.MaxPool3d(3, 2, 1),
}


def transform_obstacle() -> str | None:
    """Against fused operators as such."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return "torch.func and forward-mode differentiation have no rules for it"
    return None


def block_obstacle(x: Tensor, layers: Sequence[DenseLayerModules]) -> str | None:
    """Against a dense block that reads x, N x C0 x *sides."""
    channels = x.shape[1]
    chains: list[Sequence[UnitModules]] = []
    for layer in layers:
        assert isinstance(layer, nn.Module)
        chain = layer.units() if hasattr(layer, "units") else ()
        if not chain:
            return f"it doesn't know what a {type(layer).__name__} computes"
        if found := _interference(layer) or _chain_obstacle(x, channels, chain):
            return found
        channels += chain[-1].conv.out_channels
        chains.append(chain)
    if len({tuple(unit.conv.out_channels for unit in chain[:-1]) for chain in chains}) > 1:
        return "its layers have bottlenecks of different widths"
    return _mode_obstacle(x, [unit for chain in chains for unit in chain])


def transition_obstacle(x: Tensor, modules: TransitionModules) -> str | None:
    """Against a transition that reads x, N x C x *sides."""
    units, pool = modules.units(), modules.pool
    if not units:
        return f"it doesn't know what a {type(modules).__name__} computes"
    if not _alike(pool, _TRANSITION_POOLS.get(x.dim())):
        return "it has another pooling in a transition"
    if min(x.shape[2:]) < 2:
        return "its maps are too small to be pooled"
    return _interference(pool) or _chain_obstacle(x, x.shape[1], units) or _mode_obstacle(x, units)


def stem_obstacle(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> str | None:
    """Against the three modules behind the first convolution, which made x, N x C x *sides."""
    if type(norm) is not _NORMS.get(x.dim()) or type(relu) is not nn.ReLU:
        return "it has another normalisation or activation in its stem"
    if not _alike(pool, _STEM_POOLS.get(x.dim())):
        return "it has another pooling in its stem"
    assert isinstance(norm, _BatchNorm)
    return _interference(norm, relu, pool) or _norm_obstacle(x, x.shape[1], norm) or _batch_obstacle(x, norm)


def _chain_obstacle(x: Tensor, channels: int, chain: Sequence[UnitModules]) -> str | None:
    """Against units that follow one another; the first one reads the channels, in x's sides and type."""
    for unit in chain:
        kinds = (
            (_NORMS.get(x.dim()), SyncBatchNorm),
            (nn.ReLU,),
            (_CONVOLUTIONS.get(x.dim()),),
            (nn.Dropout,),
        )
        for module, known in zip(unit, kinds, strict=True):
            if type(module) not in known:
                return f"it has a {type(module).__name__} where it cannot have one"
        if found := (
            _interference(*unit)
            or _norm_obstacle(x, channels, unit.norm)
            or _convolution_obstacle(x, channels, unit.conv)
        ):
            return found
        channels = unit.conv.out_channels
    return None


def _interference(*modules: nn.Module) -> str | None:
    """Against modules whose own forward will not be called."""
    for module in modules:
        if (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or "forward" in module.__dict__
        ):
            return f"a {type(module).__name__} has hooks or a forward of its own, which would not be called"
    return None


def _norm_obstacle(x: Tensor, channels: int, norm: _BatchNorm) -> str | None:
    if not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        return "it needs batch normalisation with scale, shift and running statistics"
    if norm.weight.shape != (channels,):
        return f"a batch normalisation of {norm.num_features} channels reads {channels}"
    dtype = compute_type(x)
    if norm.weight.dtype not in (dtype, accumulation_type(dtype)):
        return f"it computes in {dtype}, a batch normalisation in {norm.weight.dtype}"
    return _device_obstacle(x, norm.weight)


def _convolution_obstacle(x: Tensor, channels: int, conv: _ConvNd) -> str | None:
    side, dims = conv.kernel_size[0], x.dim() - 2
    plain = (
        side in (1, 3)
        and conv.padding == (side // 2,) * dims
        and conv.stride == conv.dilation == (1,) * dims
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )
    if not plain or conv.weight.shape != (conv.out_channels, channels, *(side,) * dims):
        return "it needs convolutions with kernels of 1 or 3, zero padding and no stride, groups or bias"
    if compute_type(conv.weight) != compute_type(x):
        return f"it computes in {compute_type(x)}, a convolution in {conv.weight.dtype}"
    return _device_obstacle(x, conv.weight)


def _device_obstacle(x: Tensor, weight: Tensor) -> str | None:
    return (
        None if weight.device == x.device else f"its input is on {x.device}, its weights on {weight.device}"
    )


def _mode_obstacle(x: Tensor, units: Sequence[UnitModules]) -> str | None:
    """Against units that run as one: in the same mode, and with the same dropout."""
    first = units[0].norm
    if any(norm.training != first.training or type(norm) is not type(first) for norm, *_ in units):
        return "some of its batch normalisations are in training and others in evaluation"
    drops = {unit.drop for unit in units}
    if len(drops) > 1 or max(drops) >= 1:
        return "it needs the same probability of dropout everywhere, and below 1"
    return _batch_obstacle(x, first)


def _batch_obstacle(x: Tensor, norm: _BatchNorm) -> str | None:
    if x.numel() == 0:
        return "there is nothing in an empty batch"
    if norm.training and not isinstance(norm, SyncBatchNorm) and x.numel() == x.shape[1]:
        return "a batch of a single pixel has no variance to normalise by"
    return None


def _alike(pool: nn.Module, known: _AvgPoolNd | _MaxPoolNd | None) -> bool:
    return type(pool) is type(known) and all(
        getattr(pool, name) == getattr(known, name) for name in known.__constants__
    )
