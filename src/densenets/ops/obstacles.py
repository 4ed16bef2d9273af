"""Why modules cannot be fused: they do something else than those that `DenseNet` makes.

Each function returns the end of a sentence, or None where nothing stands in the way. What PyTorch's own
modules would refuse is an obstacle too: with "auto" it is they who refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import _has_any_global_hook
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
_UNITS = {
    dims: ((_NORMS[dims], SyncBatchNorm), (nn.ReLU,), (_CONVOLUTIONS[dims],), (nn.Dropout,))
    for dims in _NORMS
}


class _Maps(NamedTuple):
    """What a unit reads: the dimensions, device and type of x, and how many channels."""

    dims: int
    device: torch.device
    dtype: torch.dtype
    channels: int


def transform_obstacle() -> str | None:
    """Against fused operators as such."""
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return "torch.func and forward-mode differentiation have no rules for it"
    return None


def block_obstacle(
    x: Tensor, layers: Sequence[DenseLayerModules], chains: Sequence[Sequence[UnitModules]]
) -> str | None:
    """Against a dense block that reads x, N x C0 x *sides; `chains` are the units of each layer."""
    return _layers_obstacle(_maps(x), layers, chains) or _mode_obstacle(
        x, [unit for chain in chains for unit in chain]
    )


def joint_obstacle(
    x: Tensor,
    layers: Sequence[DenseLayerModules],
    chains: Sequence[Sequence[UnitModules]],
    modules: TransitionModules,
    units: Sequence[UnitModules],
) -> str | None:
    """Against a dense block that reads x, N x C0 x *sides, and the transition behind it as one."""
    if found := block_obstacle(x, layers, chains):
        return found
    channels = x.shape[1] + sum(chain[-1].conv.out_channels for chain in chains)
    maps = _maps(x)._replace(channels=channels)
    found = _transition_obstacle(maps, x.shape[2:], modules, units) or _mode_obstacle(x, units)
    if found:
        return found
    norm, first = units[0].norm, chains[0][0].norm
    if norm.training != first.training or type(norm) is not type(first):
        return "the transition is not in the mode of its block"
    return None


def _layers_obstacle(
    maps: _Maps, layers: Sequence[DenseLayerModules], chains: Sequence[Sequence[UnitModules]]
) -> str | None:
    for layer, chain in zip(layers, chains, strict=True):
        assert isinstance(layer, nn.Module)
        if not chain:
            return f"it doesn't know what a {type(layer).__name__} computes"
        if found := interference(layer) or _chain_obstacle(maps, chain):
            return found
        maps = maps._replace(channels=maps.channels + chain[-1].conv.out_channels)
    if len({tuple(unit.conv.out_channels for unit in chain[:-1]) for chain in chains}) > 1:
        return "its layers have bottlenecks of different widths"
    return None


def transition_obstacle(x: Tensor, modules: TransitionModules, units: Sequence[UnitModules]) -> str | None:
    """Against a transition that reads x, N x C x *sides; `units` are its own."""
    return _transition_obstacle(_maps(x), x.shape[2:], modules, units) or _mode_obstacle(x, units)


def _transition_obstacle(
    maps: _Maps, sides: Sequence[int], modules: TransitionModules, units: Sequence[UnitModules]
) -> str | None:
    pool = modules.pool
    if not units:
        return f"it doesn't know what a {type(modules).__name__} computes"
    if not _alike(pool, _TRANSITION_POOLS.get(maps.dims)):
        return "it has another pooling in a transition"
    if min(sides) < 2:
        return "its maps are too small to be pooled"
    return interference(pool) or _chain_obstacle(maps, units)


def stem_obstacle(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> str | None:
    """Against the three modules behind the first convolution, which made x, N x C x *sides."""
    if type(norm) is not _NORMS.get(x.dim()) or type(relu) is not nn.ReLU:
        return "it has another normalisation or activation in its stem"
    if not _alike(pool, _STEM_POOLS.get(x.dim())):
        return "it has another pooling in its stem"
    assert isinstance(norm, _BatchNorm)
    of_modules = interference(norm) or interference(relu) or interference(pool)
    return of_modules or _norm_obstacle(_maps(x), norm) or _batch_obstacle(x, norm)


def remade_result(images: Tensor, conv: nn.Module) -> Tensor | None:
    """A tensor like what the first convolution makes of N x C x *sides, without memory of its own.

    None where it is another convolution than those that `DenseNet` makes, or one that somebody watches.
    """
    ones = (1,) * (images.dim() - 2)
    if type(conv) is not _CONVOLUTIONS.get(images.dim()) or interference(conv) or _has_any_global_hook():
        return None
    assert isinstance(conv, _ConvNd)
    plain = conv.dilation == ones and conv.groups == 1 and conv.bias is None and conv.padding_mode == "zeros"
    if not plain or isinstance(conv.padding, str) or conv.weight.device != images.device:
        return None
    shapes = zip(images.shape[2:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    sides = [(side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in shapes]
    return images.new_empty(1).expand(len(images), conv.out_channels, *sides)


def _maps(x: Tensor) -> _Maps:
    return _Maps(x.dim(), x.device, compute_type(x), x.shape[1])


def _chain_obstacle(maps: _Maps, chain: Sequence[UnitModules]) -> str | None:
    """Against units that follow one another; the first one reads the maps."""
    if maps.dims not in _UNITS:
        return f"it knows no maps of {maps.dims} dimensions"
    for unit in chain:
        for module, known in zip(unit, _UNITS[maps.dims], strict=True):
            if type(module) not in known:
                return f"it has a {type(module).__name__} where it cannot have one"
            if found := interference(module):
                return found
        if found := _norm_obstacle(maps, unit.norm) or _convolution_obstacle(maps, unit.conv):
            return found
        maps = maps._replace(channels=unit.conv.out_channels)
    return None


def interference(module: nn.Module) -> str | None:
    """Against a module whose own forward will not be called."""
    if (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    ):
        return f"a {type(module).__name__} has hooks or a forward of its own, which would not be called"
    return None


def _norm_obstacle(maps: _Maps, norm: _BatchNorm) -> str | None:
    if not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        return "it needs batch normalisation with scale, shift and running statistics"
    scale = norm.weight
    if scale.shape != (maps.channels,):
        return f"a batch normalisation of {norm.num_features} channels reads {maps.channels}"
    if scale.dtype not in (maps.dtype, accumulation_type(maps.dtype)):
        return f"it computes in {maps.dtype}, a batch normalisation in {scale.dtype}"
    return _device_obstacle(maps, scale)


def _convolution_obstacle(maps: _Maps, conv: _ConvNd) -> str | None:
    weight, side, ones = conv.weight, conv.kernel_size[0], (1,) * (maps.dims - 2)
    plain = (
        side in (1, 3)
        and conv.padding == (side // 2,) * len(ones)
        and conv.stride == conv.dilation == ones
        and conv.groups == 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
    )
    if not plain or weight.shape != (conv.out_channels, maps.channels, *(side,) * len(ones)):
        return "it needs convolutions with kernels of 1 or 3, zero padding and no stride, groups or bias"
    if weight.dtype != maps.dtype and compute_type(weight) != maps.dtype:
        return f"it computes in {maps.dtype}, a convolution in {weight.dtype}"
    return _device_obstacle(maps, weight)


def _device_obstacle(maps: _Maps, weight: Tensor) -> str | None:
    if weight.device == maps.device:
        return None
    return f"its input is on {maps.device}, its weights on {weight.device}"


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
