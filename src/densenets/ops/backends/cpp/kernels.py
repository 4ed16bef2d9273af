"""The kernels of the C++ backend: the unit, a whole block and the stem, by calls of the library."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.ops.backends.block_plan import BlockPlan, BlockResult, BlockTensors
from densenets.ops.backends.cpp import interface, library
from densenets.ops.backends.cpp.block import BlockCall
from densenets.ops.backends.cpp.tensors import (
    Rows,
    array,
    arrays,
    check_apart,
    data_type,
    matrix,
    three_sides,
)
from densenets.ops.backends.unit import (
    BatchNormGradCorrection,
    Moments,
    Unit,
    UnitParameters,
    accumulation_type,
    aligned_tensors,
    in_parameter_types,
    unit_parameters,
)


class CppKernels:
    """The library's kernels of one instruction set, on as many threads as PyTorch computes with.

    Args:
        instruction_set: one of `load_library().instruction_sets`; the best one without.

    Raises:
        InputError: the library is missing, or the machine lacks the instruction set.
    """

    def __init__(self, instruction_set: str | None = None) -> None:
        loaded = _library_with_threads()
        self._functions = loaded.functions
        if instruction_set is None:
            self._index = loaded.chosen()
        elif instruction_set in loaded.instruction_sets:
            self._index = loaded.instruction_sets.index(instruction_set)
        else:
            raise InputError(
                f"this machine runs {', '.join(loaded.instruction_sets)}, not '{instruction_set}'"
            )

    def advise_huge_pages(self, *buffers: Tensor) -> None:
        """Advise the system to back fresh memory with huge pages, which it clears several times faster."""
        for buffer in buffers:
            address = array(buffer, buffer.dtype, tuple(buffer.shape))
            self._functions.densenets_advise_huge_pages(address, buffer.numel() * buffer.element_size())

    def statistics(self, x: Tensor) -> Moments:
        """Per-channel mean and variance of P x C."""
        number, (pixels, channels) = data_type(x.dtype), x.shape
        rows, moments = matrix(x, x.dtype, (pixels, channels)), _empty_moments(x, channels)
        self._functions.densenets_statistics(
            self._index,
            number,
            torch.get_num_threads(),
            rows.address,
            pixels,
            channels,
            rows.stride,
            *arrays(moments, moments.mean.dtype, (channels,)),
        )
        return moments

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, to `out`; return its moments if `statistics`."""
        call, x, _held = _call(unit)
        channels = unit.weight.shape[0]
        rows = matrix(out, unit.x.dtype, (unit.out_pixels, channels))
        check_apart(rows, x)
        call.output, call.output_stride = rows.address, rows.stride
        moments = _empty_moments(out, channels) if statistics else None
        if moments is not None:
            call.output_mean, call.output_variance = arrays(moments, moments.mean.dtype, (channels,))
        self._functions.densenets_forward(self._index, ctypes.byref(call))
        return moments

    def backward(
        self,
        unit: Unit,
        gradient: Tensor,
        correction: BatchNormGradCorrection | None,
        x_gradient: Tensor,
        *,
        accumulate: bool,
        sums: Tensor | None,
    ) -> UnitParameters:
        """Backward pass of the unit; see `UnitKernels`."""
        call, x, held = _call(unit)
        grads = UnitParameters(*(torch.empty_like(parameter) for parameter in held.parameters))
        shape = (unit.out_pixels, unit.weight.shape[0])
        read = _set_gradient(call, gradient, correction, unit.x.dtype, shape)
        self._set_results(call, unit, x_gradient, grads, (x, *read))
        call.accumulate = accumulate
        call.weight_gradient = array(grads.weight, grads.weight.dtype, unit.weight.shape)
        if sums is not None:
            call.sum_1, call.sum_2 = _row_addresses(sums, grads.scale.dtype, x.shape[1])
        self._functions.densenets_backward(self._index, ctypes.byref(call))
        return in_parameter_types(unit_parameters(unit), grads)

    def block_forward(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        """Forward pass of all layers of a block; see `BlockKernels`."""
        block = BlockCall(result, tensors, plan)
        self.advise_huge_pages(*block.prepare_forward())
        self._functions.densenets_block_forward(self._index, ctypes.byref(block.struct))

    def block_backward(
        self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan, gradients: Tensor, sums: Tensor
    ) -> list[UnitParameters]:
        """Backward pass of all layers of a block; see `BlockKernels`."""
        block = BlockCall(result, tensors, plan)
        self.advise_huge_pages(*block.prepare_backward(gradients, sums))
        self._functions.densenets_block_backward(self._index, ctypes.byref(block.struct))
        return [
            in_parameter_types(parameters, grads)
            for parameters, grads in zip(tensors.parameters, block.grads, strict=True)
        ]

    def apply_correction(self, gradient: Tensor, correction: BatchNormGradCorrection, out: Tensor) -> None:
        """Write the corrected gradient, Q x M, to `out`."""
        pixels, channels = out.shape
        call = interface.Unit(data_type=data_type(out.dtype), threads=torch.get_num_threads())
        call.out_channels = channels
        given, *read = _set_gradient(call, gradient, correction, out.dtype, (pixels, channels))
        rows = matrix(out, out.dtype, (pixels, channels))
        check_apart(rows, *read, *([] if given == rows else [given]))  # it may be corrected in place
        self._functions.densenets_apply_correction(
            self._index, ctypes.byref(call), pixels, rows.address, rows.stride
        )

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        """Write the maxima of BN-ReLU-max pooling, and the place of each in its window.

        Args:
            unit: its weight, 0 x C x *windows, only gives the windows' sides.
            out: Q x C.
            winners: Q x C of uint8, the maxima's places.
        """
        call, x, _held = _call(unit)
        shape = (_stem_pixels(unit), x.shape[1])
        rows = matrix(out, unit.x.dtype, shape)
        check_apart(rows, x)
        call.output, call.output_stride = rows.address, rows.stride
        taps = array(winners, torch.uint8, shape)
        self._functions.densenets_stem_forward(self._index, ctypes.byref(call), taps)

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        """Write the corrected gradient of a stem's input, P x C; return the gradients of the parameters."""
        call, x, (parameters, _) = _call(unit)
        grads = UnitParameters(
            torch.empty_like(parameters.scale), torch.empty_like(parameters.shift), parameters.weight
        )
        shape = (_stem_pixels(unit), x.shape[1])
        read = _set_gradient(call, gradient, None, unit.x.dtype, shape)
        self._set_results(call, unit, x_gradient, grads, (x, *read))
        call.result_count = x.shape[0] if batch_statistics else 0
        taps = array(winners, torch.uint8, shape)
        self._functions.densenets_stem_backward(self._index, ctypes.byref(call), taps)
        return in_parameter_types(unit_parameters(unit), grads)

    @staticmethod
    def _set_results(
        call: interface.Unit, unit: Unit, x_gradient: Tensor, grads: UnitParameters, read: Sequence[Rows]
    ) -> None:
        """Set the call's addresses for the gradients of its input, scale and shift."""
        rows = matrix(x_gradient, unit.x.dtype, read[0].shape)
        check_apart(rows, *read)
        call.input_gradient, call.input_gradient_stride = rows.address, rows.stride
        call.scale_gradient, call.shift_gradient = arrays(grads[:2], grads.scale.dtype, (rows.shape[1],))

    def peak(self, dtype: torch.dtype, threads: int, seconds: float) -> float:
        """GFLOP/s of a loop of multiply-adds alone: the most that the machine can compute."""
        rate = ctypes.c_double()
        self._functions.densenets_peak(self._index, data_type(dtype), threads, seconds, ctypes.byref(rate))
        return rate.value / 1e9


@functools.cache
def _library_with_threads() -> library.Library:
    loaded = library.load_library()
    if sys.platform == "win32":
        return loaded  # there a loaded library cannot be asked for by such a mode
    # PyTorch's own OpenMP runtime, whichever it is: a second one would compete with it for the cores.
    try:
        torch_cpu = ctypes.CDLL("libtorch_cpu.so", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        runtime = ctypes.cast(torch_cpu.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):  # a build of PyTorch without: the library starts threads of its own
        return loaded
    loaded.functions.densenets_use_runtime(runtime)
    return loaded


class _Held(NamedTuple):
    """Tensors of the accumulation type whose addresses a call has; they must outlive it."""

    parameters: UnitParameters
    moments: Moments


def _call(unit: Unit) -> tuple[interface.Unit, Rows, _Held]:
    """The arguments of every call of a unit, its input's address, and tensors that must outlive the call."""
    x, real = unit.x, accumulation_type(unit.x.dtype)
    out_channels, in_channels, *kernel = unit.weight.shape
    if unit.pool and min(unit.sides) < 2:
        raise RuntimeError("a bug of densenets: the native kernels were to pool a side of one pixel")
    number = data_type(x.dtype)
    rows = matrix(x, x.dtype, (unit.batch * math.prod(unit.sides), in_channels))
    held = _Held(
        UnitParameters(*aligned_tensors(unit_parameters(unit), real)),
        Moments(*aligned_tensors(unit.moments, real)),
    )
    mean, variance, scale, shift = arrays((*held.moments, *held.parameters[:2]), real, (in_channels,))
    call = interface.Unit(
        data_type=number,
        threads=torch.get_num_threads(),
        batch=unit.batch,
        sides=three_sides(unit.sides),
        taps=three_sides(kernel),
        pool=unit.pool,
        out_channels=out_channels,
        in_channels=in_channels,
        input=rows.address,
        input_stride=rows.stride,
        mean=mean,
        variance=variance,
        scale=scale,
        shift=shift,
        weight=array(held.parameters.weight, real, unit.weight.shape),
        epsilon=unit.epsilon,
    )
    if unit.dropout_mask is not None:
        call.dropout_mask = array(unit.dropout_mask, torch.uint8, (unit.out_pixels, out_channels))
        call.dropout_scale = unit.dropout_scale
    return call, rows, held


def _row_addresses(sums: Tensor, dtype: torch.dtype, length: int) -> tuple[int, int]:
    """The addresses of the two rows of 2 x `length` sums."""
    rows = matrix(sums, dtype, (2, length))
    return rows.address, rows.address + rows.stride * rows.size


def _set_gradient(
    call: interface.Unit,
    gradient: Tensor,
    correction: BatchNormGradCorrection | None,
    dtype: torch.dtype,
    shape: tuple[int, int],
) -> list[Rows]:
    """Set the call's addresses for the gradient of a result and its correction; return the matrices read."""
    rows = matrix(gradient, dtype, shape)
    call.output_gradient, call.output_gradient_stride = rows.address, rows.stride
    if correction is None:
        return [rows]
    result = matrix(correction.result, dtype, shape)
    real, channels = accumulation_type(dtype), shape[1:]
    call.result, call.result_stride = result.address, result.stride
    call.result_mean, call.result_count = array(correction.mean, real, channels), correction.pixels
    call.result_sum_1, call.result_sum_2 = _row_addresses(correction.sums, real, *channels)
    return [rows, result]


def _stem_pixels(unit: Unit) -> int:
    """Number of pixels of a stem's output over the batch, at stride 2."""
    return unit.batch * math.prod((side + 1) // 2 for side in unit.sides)


def _empty_moments(like: Tensor, channels: int) -> Moments:
    values = torch.empty(2, channels, dtype=accumulation_type(like.dtype), device=like.device)
    return Moments(values[0], values[1])
