"""The unit of a fused execution by the native library."""

from __future__ import annotations

import ctypes
import functools
import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.ops.backends.cpp import interface, library
from densenets.ops.backends.cpp.tensors import Rows, array, arrays, check_apart, data_type, matrix
from densenets.ops.fused.unit import Completion, Moments, Unit, UnitParameters, accumulation_type


class NativeKernels:
    """The kernels of one instruction set, on the threads that PyTorch computes with.

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

    def expect(self, *buffers: Tensor) -> None:
        """Ask for large pages under fresh memory: the system clears it on first use several times faster."""
        for buffer in buffers:
            address = array(buffer, buffer.dtype, tuple(buffer.shape))
            self._functions.densenets_expect(address, buffer.numel() * buffer.element_size())

    def statistics(self, x: Tensor) -> Moments:
        """Of the columns of P x C."""
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
        """Write the unit's result, Q x M, and return its moments if asked to."""
        call, x = _call(unit)
        channels = unit.weight.shape[0]
        rows = matrix(out, unit.x.dtype, (unit.out_pixels, channels))
        check_apart(rows, x)
        call.output, call.output_stride = rows.address, rows.stride
        moments = _empty_moments(out, channels) if statistics else None
        if moments is not None:
            found = arrays(moments, moments.mean.dtype, (channels,))
            call.output_mean, call.output_variance = found
        self._functions.densenets_forward(self._index, ctypes.byref(call))
        return moments

    def backward(
        self,
        unit: Unit,
        gradient: Tensor,
        completion: Completion | None,
        x_gradient: Tensor,
        *,
        accumulate: bool,
        sums: Tensor | None,
    ) -> UnitParameters:
        """Send the gradient of the result through the unit; see `Kernels`."""
        call, x = _call(unit)
        gradients = UnitParameters(
            torch.empty_like(unit.scale), torch.empty_like(unit.shift), torch.empty_like(unit.weight)
        )
        shape = (unit.out_pixels, unit.weight.shape[0])
        read = _set_gradient(call, gradient, completion, unit.x.dtype, shape)
        self._set_results(call, unit, x_gradient, gradients, (x, *read))
        call.accumulate = accumulate
        call.weight_gradient = array(gradients.weight, unit.weight.dtype, unit.weight.shape)
        if sums is not None:
            call.sum_1, call.sum_2 = _two_rows(sums, unit.scale.dtype, x.shape[1])
        self._functions.densenets_backward(self._index, ctypes.byref(call))
        return gradients

    def block_forward(self, block: interface.Block) -> None:
        """Run all layers of a block; see `native.block`."""
        self._functions.densenets_block_forward(self._index, ctypes.byref(block))

    def block_backward(self, block: interface.Block) -> None:
        """Send the gradient of a block's output through its layers; see `native.block`."""
        self._functions.densenets_block_backward(self._index, ctypes.byref(block))

    def complete(self, gradient: Tensor, completion: Completion, out: Tensor) -> None:
        """Write the completed gradient, Q x M."""
        pixels, channels = out.shape
        call = interface.Unit(data_type=data_type(out.dtype), threads=torch.get_num_threads())
        call.out_channels = channels
        made, *read = _set_gradient(call, gradient, completion, out.dtype, (pixels, channels))
        rows = matrix(out, out.dtype, (pixels, channels))
        check_apart(rows, *read, *([] if made == rows else [made]))  # in its own place it may be completed
        self._functions.densenets_complete(self._index, ctypes.byref(call), pixels, rows.address, rows.stride)

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        """BN-ReLU-max pooling in the place of a unit's product: its maxima, and which tap each came from.

        Args:
            unit: its weight, 0 x C x *windows, has the windows' sides alone.
            out: Q x C.
            winners: Q x C of uint8.
        """
        call, x = _call(unit)
        shape = (_maxima(unit), x.shape[1])
        rows = matrix(out, unit.x.dtype, shape)
        check_apart(rows, x)
        call.output, call.output_stride = rows.address, rows.stride
        taps = array(winners, torch.uint8, shape)
        self._functions.densenets_stem_forward(self._index, ctypes.byref(call), taps)

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        """Write the gradient of a stem's input, complete, P x C; return those of its parameters."""
        call, x = _call(unit)
        found = UnitParameters(torch.empty_like(unit.scale), torch.empty_like(unit.shift), unit.weight)
        shape = (_maxima(unit), x.shape[1])
        read = _set_gradient(call, gradient, None, unit.x.dtype, shape)
        self._set_results(call, unit, x_gradient, found, (x, *read))
        call.result_count = x.shape[0] if batch_statistics else 0
        taps = array(winners, torch.uint8, shape)
        self._functions.densenets_stem_backward(self._index, ctypes.byref(call), taps)
        return found

    @staticmethod
    def _set_results(
        call: interface.Unit, unit: Unit, x_gradient: Tensor, found: UnitParameters, read: Sequence[Rows]
    ) -> None:
        """Where a backward pass writes the gradients of its input, of scale and shift."""
        rows = matrix(x_gradient, unit.x.dtype, read[0].shape)
        check_apart(rows, *read)
        call.input_gradient, call.input_gradient_stride = rows.address, rows.stride
        call.scale_gradient, call.shift_gradient = arrays(found[:2], unit.scale.dtype, (rows.shape[1],))

    def peak(self, dtype: torch.dtype, threads: int, seconds: float) -> float:
        """Floating-point operations per second of a loop of multiply-adds alone, in GFLOP/s."""
        rate = ctypes.c_double()
        self._functions.densenets_peak(self._index, data_type(dtype), threads, seconds, ctypes.byref(rate))
        return rate.value / 1e9


@functools.cache
def _library_with_threads() -> library.Library:
    loaded = library.load_library()
    # PyTorch's own OpenMP runtime, whichever it is: a second one would fight with it over the cores.
    try:
        torch_cpu = ctypes.CDLL("libtorch_cpu.so", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        runtime = ctypes.cast(torch_cpu.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):  # a build of PyTorch without: the library starts threads of its own
        return loaded
    loaded.functions.densenets_use_runtime(runtime)
    return loaded


def _call(unit: Unit) -> tuple[interface.Unit, Rows]:
    """What every call of a unit says, and where its input lies."""
    x, real = unit.x, accumulation_type(unit.x.dtype)
    out_channels, in_channels, *kernel = unit.weight.shape
    if unit.pool and min(unit.sides) < 2:
        raise RuntimeError("a bug of densenets: the native kernels were to pool a side of one pixel")
    number = data_type(x.dtype)
    rows = matrix(x, x.dtype, (unit.batch * math.prod(unit.sides), in_channels))
    mean, variance, scale, shift = arrays((*unit.moments, unit.scale, unit.shift), real, (in_channels,))
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
        weight=array(unit.weight, real, unit.weight.shape),
        epsilon=unit.epsilon,
    )
    if unit.keep is not None:
        call.keep = array(unit.keep, torch.uint8, (unit.out_pixels, out_channels))
        call.keep_scale = unit.keep_scale
    return call, rows


def _two_rows(sums: Tensor, dtype: torch.dtype, length: int) -> tuple[int, int]:
    rows = matrix(sums, dtype, (2, length))
    return rows.address, rows.address + rows.stride * rows.size


def _set_gradient(
    call: interface.Unit,
    gradient: Tensor,
    completion: Completion | None,
    dtype: torch.dtype,
    shape: tuple[int, int],
) -> list[Rows]:
    """The gradient of a result, and what completes it; returns where they are."""
    rows = matrix(gradient, dtype, shape)
    call.output_gradient, call.output_gradient_stride = rows.address, rows.stride
    if completion is None:
        return [rows]
    result = matrix(completion.result, dtype, shape)
    real, channels = accumulation_type(dtype), shape[1:]
    call.result, call.result_stride = result.address, result.stride
    call.result_mean, call.result_count = array(completion.mean, real, channels), completion.pixels
    call.result_sum_1, call.result_sum_2 = _two_rows(completion.sums, real, *channels)
    return [rows, result]


def _maxima(unit: Unit) -> int:
    """Pixels behind a stem: windows two apart."""
    return unit.batch * math.prod((side + 1) // 2 for side in unit.sides)


def three_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """Depth, height and width; 1 for a dimension that there is not."""
    return (*[1] * (3 - len(sides)), *sides)


def _empty_moments(like: Tensor, channels: int) -> Moments:
    values = torch.empty(2, channels, dtype=accumulation_type(like.dtype), device=like.device)
    return Moments(values[0], values[1])
