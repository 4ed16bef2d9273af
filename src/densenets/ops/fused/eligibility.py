"""Eligibility for fusion: only modules exactly as `DenseNet` builds them, on inputs that they accept.

Everything is compared with what is known, so that anything unforeseen runs its modules. Functions return the
reason against fusion, as the end of a sentence, or None where modules are eligible. What PyTorch's own
modules would refuse is not eligible either: with "auto" they run, and refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from densenets.ops.backends.unit import accumulation_type, compute_type
from densenets.ops.interception import intercepted_reason, is_intercepted
from densenets.ops.layers import (
    BOTTLENECK_LAYER,
    PLAIN_LAYER,
    TRANSITION,
    BlockClasses,
    UnitModules,
)
from densenets.ops.sync_batch_norm import SyncBatchNorm, is_synchronized

# By the number of dimensions of their input.
_NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
_TRANSITION_POOLS: dict[int, _AvgPoolNd] = {3: nn.AvgPool1d(2), 4: nn.AvgPool2d(2), 5: nn.AvgPool3d(2)}
_STEM_POOLS: dict[int, _MaxPoolNd] = {
    3: nn.MaxPool1d(3, 2, 1),
    4: nn.MaxPool2d(3, 2, 1),
    5: nn.MaxPool3d(3, 2, 1),
}
_UNITS = {
    dims: (
        (_NORMS[dims], SyncBatchNorm, nn.SyncBatchNorm),
        (nn.ReLU,),
        (_CONVOLUTIONS[dims],),
        (nn.Dropout,),
    )
    for dims in _NORMS
}
# Kernel, padding, stride and dilation of a convolution, by dimensions and side of its kernel.
_PLAIN_CONVOLUTIONS = {
    (dims, side): ((side,) * (dims - 2), (side // 2,) * (dims - 2), (1,) * (dims - 2), (1,) * (dims - 2))
    for dims in _NORMS
    for side in (1, 3)
}
_TENSORS = (Parameter, Tensor)


class Eligible(NamedTuple):
    """The units of modules that may be fused, or the reason why they may not.

    Attributes:
        layers: the units of each layer of a block.
        transition: the unit of the transition, if one was given.
        reason: why the modules cannot be fused; None where they can.
    """

    layers: list[list[UnitModules]]
    transition: UnitModules | None
    reason: str | None


class _UnitInput(NamedTuple):
    """A unit's input: number of dimensions, device, data type and channels."""

    dims: int
    device: torch.device
    dtype: torch.dtype
    channels: int


def eligible_block(
    x: Tensor, block: nn.Module, classes: BlockClasses, transition: nn.Module | None = None
) -> Eligible:
    """Whether a dense block that reads x, N x C0 x *sides, may be fused, alone or with a transition."""
    layers: list[list[UnitModules]] = []
    if reason := _input_reason(x) or _class_reason(block, classes.block):
        return Eligible([], None, reason)
    maps = _maps(x)
    for layer in block._modules.values():
        if reason := _class_reason(layer, classes.layer):
            return Eligible([], None, reason)
        assert layer is not None
        if is_intercepted(layer):
            return Eligible([], None, intercepted_reason(layer))
        units = layer_units(layer)
        if reason := _units_reason(maps, units):
            return Eligible([], None, reason)
        layers.append(units)
        maps = maps._replace(channels=maps.channels + units[-1].conv.out_channels)
    if not layers:
        return Eligible([], None, "it has no layers")
    if any(len(units) != len(layers[0]) for units in layers) or (
        len({units[0].conv.out_channels for units in layers if len(units) == 2}) > 1
    ):
        return Eligible([], None, "its layers have bottlenecks of different widths")
    if reason := _mode_reason(x, [unit for units in layers for unit in units]):
        return Eligible([], None, reason)
    if transition is None:
        return Eligible(layers, None, None)
    unit, reason = _transition(maps, x, transition, classes)
    if reason is None and unit is not None:
        norm, first = unit.norm, layers[0][0].norm
        if norm.training != first.training or type(norm) is not type(first):
            reason = "the transition is not in the mode of its block"
    return Eligible(layers, unit, reason)


def eligible_transition(x: Tensor, transition: nn.Module, classes: BlockClasses) -> Eligible:
    """Whether a transition that reads x, N x C x *sides, may be fused."""
    if reason := _input_reason(x):
        return Eligible([], None, reason)
    unit, reason = _transition(_maps(x), x, transition, classes)
    return Eligible([], unit, reason)


def stem_ineligibility(x: Tensor, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> str | None:
    """Why a stem's BN, ReLU and max pool that read x, N x C x *sides, cannot be fused; None if they can."""
    if reason := _input_reason(x):
        return reason
    if type(norm) is not _NORMS.get(x.dim()) or type(relu) is not nn.ReLU:
        return "it has another normalisation or activation in its stem"
    if not _is_same_pool(pool, _STEM_POOLS.get(x.dim())):
        return "it has another pooling in its stem"
    for module in (norm, relu, pool):
        if is_intercepted(module):
            return intercepted_reason(module)
    assert isinstance(norm, _BatchNorm)
    return _norm_reason(_maps(x), norm) or _batch_reason(x, norm)


def recomputed_result(images: Tensor, conv: nn.Module) -> Tensor | None:
    """A tensor with the shape of the first convolution's result on N x C x *sides, without memory of its own.

    None where it is another convolution than `DenseNet`'s, or has hooks or a forward of its own.
    """
    ones = (1,) * (images.dim() - 2)
    if _input_reason(images) or type(conv) is not _CONVOLUTIONS.get(images.dim()) or is_intercepted(conv):
        return None
    assert isinstance(conv, _ConvNd)
    weight = conv._parameters.get("weight")
    plain = conv.dilation == ones and conv.groups == 1 and conv.bias is None and conv.padding_mode == "zeros"
    if not plain or isinstance(conv.padding, str) or weight is None or type(weight) not in _TENSORS:
        return None
    if weight.device != images.device or weight.shape[1:] != (images.shape[1], *conv.kernel_size):
        return None
    shapes = zip(images.shape[2:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    sides = [(side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in shapes]
    if min(sides) < 1:
        return None
    return images.new_empty(1).expand(len(images), weight.shape[0], *sides)


def is_plain(module: nn.Module | None) -> bool:
    """Whether a module is one of PyTorch's whose values do not depend on the memory format, without hooks."""
    return type(module) in _PLAIN_MODULES and module is not None and not is_intercepted(module)


_PLAIN_MODULES = {
    *_NORMS.values(),
    *_CONVOLUTIONS.values(),
    *(type(pool) for pool in _TRANSITION_POOLS.values()),
    *(type(pool) for pool in _STEM_POOLS.values()),
    nn.ReLU,
}


def _class_reason(module: nn.Module | None, cls: type[nn.Module]) -> str | None:
    return None if type(module) is cls else f"it doesn't know what a {type(module).__name__} computes"


def layer_units(layer: nn.Module) -> list[UnitModules]:
    """The units of a layer of the exact class; none where it has other modules than it was built with."""
    modules = layer._modules
    names = BOTTLENECK_LAYER if layer.bottleneck else PLAIN_LAYER
    if tuple(modules) != names:
        return []
    parts = list(modules.values())
    units = [UnitModules(*parts[:4])]  # type: ignore[arg-type]  # what they are is checked next
    if layer.bottleneck:
        units.append(UnitModules(*parts[4:]))  # type: ignore[arg-type]
    return units


def _transition(
    maps: _UnitInput, x: Tensor, transition: nn.Module, classes: BlockClasses
) -> tuple[UnitModules | None, str | None]:
    """The unit of a transition that reads such maps, or the reason why it cannot be fused."""
    if reason := _class_reason(transition, classes.transition):
        return None, reason
    modules = transition._modules
    if tuple(modules) != TRANSITION:
        return None, "a transition has other modules than it was built with"
    norm, relu, conv, dropout, pool = modules.values()
    unit = UnitModules(norm, relu, conv, dropout)  # type: ignore[arg-type]  # what they are is checked next
    if not _is_same_pool(pool, _TRANSITION_POOLS.get(maps.dims)):
        return None, "it has another pooling in a transition"
    assert pool is not None
    if min(x.shape[2:]) < 2:
        return None, "its maps are too small to be pooled"
    if is_intercepted(pool):
        return None, intercepted_reason(pool)
    return unit, _units_reason(maps, [unit]) or _mode_reason(x, [unit])


def _input_reason(x: Tensor) -> str | None:
    if type(x) not in _TENSORS:
        return f"its input is a {type(x).__name__}, whose own functions would not be called"
    if x.layout != torch.strided:
        return f"its input is {x.layout}"
    return None if x.dim() in _UNITS else f"it knows no maps of {x.dim()} dimensions"


def _maps(x: Tensor) -> _UnitInput:
    return _UnitInput(x.dim(), x.device, compute_type(x), x.shape[1])


def _units_reason(maps: _UnitInput, units: Sequence[UnitModules]) -> str | None:
    """Why consecutive units, the first of which reads the maps, cannot be fused; None if they can."""
    if not units:
        return "a layer has other modules than it was built with"
    for unit in units:
        for module, known in zip(unit, _UNITS[maps.dims], strict=True):
            if type(module) not in known:
                return f"it has a {type(module).__name__} where it cannot have one"
            if is_intercepted(module):
                return intercepted_reason(module)
        if reason := _norm_reason(maps, unit.norm) or _convolution_reason(maps, unit.conv):
            return reason
        maps = maps._replace(channels=unit.conv.out_channels)
    return None


def _norm_reason(maps: _UnitInput, norm: _BatchNorm) -> str | None:
    parameters, buffers = norm._parameters, norm._buffers
    scale, mean = parameters.get("weight"), buffers.get("running_mean")
    tensors = (scale, parameters.get("bias"), mean, buffers.get("running_var"))
    if (
        not (norm.affine and norm.track_running_stats and norm.momentum is not None)
        or scale is None
        or mean is None
        or buffers.get("num_batches_tracked") is None
    ):
        return "it needs batch normalisation with scale, shift and running statistics"
    for tensor in tensors:
        if type(tensor) not in _TENSORS:
            return f"a batch normalisation has a {type(tensor).__name__} in the place of a plain tensor"
        assert tensor is not None
        if tensor.shape != (maps.channels,):
            return f"a batch normalisation of {norm.num_features} channels reads {maps.channels}"
        if tensor.device != maps.device:
            return f"its input is on {maps.device}, its weights on {tensor.device}"
    if isinstance(norm, nn.SyncBatchNorm) and (maps.device.type == "cpu" or norm.process_group is not None):
        return "PyTorch's SyncBatchNorm is for accelerators, and is fused for all ranks together alone"
    if scale.dtype not in (maps.dtype, accumulation_type(maps.dtype)):
        return f"it computes in {maps.dtype}, a batch normalisation in {scale.dtype}"
    return None


def _convolution_reason(maps: _UnitInput, conv: _ConvNd) -> str | None:
    weight = conv._parameters.get("weight")
    if type(weight) not in _TENSORS or weight is None:
        return f"a convolution has a {type(weight).__name__} in the place of a plain tensor"
    settings = (conv.kernel_size, conv.padding, conv.stride, conv.dilation)
    plain = (
        settings == _PLAIN_CONVOLUTIONS.get((maps.dims, conv.kernel_size[0]))
        and conv.groups == 1
        and conv._parameters.get("bias") is None
        and conv.padding_mode == "zeros"
        and weight.shape == (conv.out_channels, maps.channels, *conv.kernel_size)
    )
    if not plain:
        return "it needs convolutions with kernels of 1 or 3, zero padding and no stride, groups or bias"
    if weight.dtype != maps.dtype and compute_type(weight) != maps.dtype:
        return f"it computes in {maps.dtype}, a convolution in {weight.dtype}"
    if weight.device != maps.device:
        return f"its input is on {maps.device}, its weights on {weight.device}"
    return None


def _mode_reason(x: Tensor, units: Sequence[UnitModules]) -> str | None:
    """Why units cannot run as one: they differ in training mode or dropout; None if they can."""
    first = units[0].norm
    if any(norm.training != first.training or type(norm) is not type(first) for norm, *_ in units):
        return "some of its batch normalisations are in training and others in evaluation"
    probabilities = {unit.drop for unit in units}
    if len(probabilities) > 1 or max(probabilities) >= 1:
        return "it needs the same probability of dropout everywhere, and below 1"
    return _batch_reason(x, first)


def _batch_reason(x: Tensor, norm: _BatchNorm) -> str | None:
    if x.numel() == 0:
        return "there is nothing in an empty batch"
    if norm.training and not is_synchronized(norm) and x.numel() == x.shape[1]:
        return "a batch of a single pixel has no variance to normalise by"
    return None


def _is_same_pool(pool: nn.Module | None, known: _AvgPoolNd | _MaxPoolNd | None) -> bool:
    return (
        known is not None
        and type(pool) is type(known)
        and all(getattr(pool, name) == getattr(known, name) for name in known.__constants__)
    )
