"""The unit of a fused execution by the native library."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from densenets.errors import InputError
from densenets.ops.kernels import Completion, Moments, Unit, UnitParameters, accumulation_type
from densenets.ops.native import library

DATA_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


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
            size = buffer.numel() * buffer.element_size()
            self._functions.densenets_expect(buffer.data_ptr(), size)

    def statistics(self, x: Tensor) -> Moments:
        """Of the columns of P x C."""
        moments = _empty_moments(x, x.shape[1])
        self._functions.densenets_statistics(
            self._index,
            DATA_TYPES[x.dtype],
            torch.get_num_threads(),
            x.data_ptr(),
            *x.shape,
            _row_step(x),
            moments.mean.data_ptr(),
            moments.variance.data_ptr(),
        )
        return moments

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        """Write the unit's result, Q x M, and return its moments if asked to."""
        call = _call(unit)
        moments = _empty_moments(out, out.shape[1]) if statistics else None
        call.output, call.output_stride = out.data_ptr(), _row_step(out)
        if moments is not None:
            call.output_mean, call.output_variance = moments.mean.data_ptr(), moments.variance.data_ptr()
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
        call = _call(unit)
        gradients = UnitParameters(
            torch.empty_like(unit.scale), torch.empty_like(unit.shift), torch.empty_like(unit.weight)
        )
        _set_gradient(call, gradient, completion)
        call.input_gradient, call.input_gradient_stride = x_gradient.data_ptr(), _row_step(x_gradient)
        call.accumulate = accumulate
        call.weight_gradient = gradients.weight.data_ptr()
        call.scale_gradient, call.shift_gradient = gradients.scale.data_ptr(), gradients.shift.data_ptr()
        if sums is not None:
            call.sum_1, call.sum_2 = sums[0].data_ptr(), sums[1].data_ptr()
        self._functions.densenets_backward(self._index, ctypes.byref(call))
        return gradients

    def block_forward(self, block: library.Block) -> None:
        """Run all layers of a block; see `native.block`."""
        self._functions.densenets_block_forward(self._index, ctypes.byref(block))

    def block_backward(self, block: library.Block) -> None:
        """Send the gradient of a block's output through its layers; see `native.block`."""
        self._functions.densenets_block_backward(self._index, ctypes.byref(block))

    def complete(self, gradient: Tensor, completion: Completion, out: Tensor) -> None:
        """Write the completed gradient, Q x M."""
        call = library.Unit(data_type=DATA_TYPES[out.dtype], threads=torch.get_num_threads())
        call.out_channels = out.shape[1]
        _set_gradient(call, gradient, completion)
        self._functions.densenets_complete(
            self._index, ctypes.byref(call), out.shape[0], out.data_ptr(), _row_step(out)
        )

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        """BN-ReLU-max pooling in the place of a unit's product: its maxima, and which tap each came from.

        Args:
            unit: its weight, 0 x C x *windows, has the windows' sides alone.
            out: Q x C.
            winners: Q x C of uint8.
        """
        call = _call(unit)
        call.output, call.output_stride = out.data_ptr(), _row_step(out)
        self._functions.densenets_stem_forward(self._index, ctypes.byref(call), winners.data_ptr())

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        """Write the gradient of a stem's input, complete, P x C; return those of its parameters."""
        call = _call(unit)
        found = UnitParameters(torch.empty_like(unit.scale), torch.empty_like(unit.shift), unit.weight)
        _set_gradient(call, gradient, None)
        call.result_count = unit.x.shape[0] if batch_statistics else 0
        call.input_gradient, call.input_gradient_stride = x_gradient.data_ptr(), _row_step(x_gradient)
        call.scale_gradient, call.shift_gradient = found.scale.data_ptr(), found.shift.data_ptr()
        self._functions.densenets_stem_backward(self._index, ctypes.byref(call), winners.data_ptr())
        return found

    def peak(self, dtype: torch.dtype, threads: int, seconds: float) -> float:
        """Floating-point operations per second of a loop of multiply-adds alone, in GFLOP/s."""
        peak: float = self._functions.densenets_peak(self._index, DATA_TYPES[dtype], threads, seconds)
        return peak / 1e9


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


def _call(unit: Unit) -> library.Unit:
    x, moments = unit.x, unit.moments
    real = accumulation_type(x.dtype)
    out_channels, in_channels, *kernel = unit.weight.shape
    call = library.Unit(
        data_type=DATA_TYPES[x.dtype],
        threads=torch.get_num_threads(),
        batch=unit.batch,
        sides=three_sides(unit.sides),
        taps=three_sides(kernel),
        pool=unit.pool,
        out_channels=out_channels,
        in_channels=in_channels,
        input=x.data_ptr(),
        input_stride=_row_step(x),
        mean=_address(moments.mean, real),
        variance=_address(moments.variance, real),
        scale=_address(unit.scale, real),
        shift=_address(unit.shift, real),
        weight=_address(unit.weight, real),
        epsilon=unit.epsilon,
    )
    if unit.keep is not None:
        call.keep, call.keep_scale = unit.keep.data_ptr(), unit.keep_scale
    return call


def _address(values: Tensor, dtype: torch.dtype) -> int:
    """Of the first element; the library wants this type, without gaps."""
    assert values.dtype == dtype
    assert values.is_contiguous()
    return values.data_ptr()


def _set_gradient(call: library.Unit, gradient: Tensor, completion: Completion | None) -> None:
    call.output_gradient, call.output_gradient_stride = gradient.data_ptr(), _row_step(gradient)
    if completion is None:
        return
    call.result, call.result_stride = completion.result.data_ptr(), _row_step(completion.result)
    call.result_mean = completion.mean.data_ptr()
    call.result_sum_1, call.result_sum_2 = completion.sums[0].data_ptr(), completion.sums[1].data_ptr()
    call.result_count = completion.pixels


def _row_step(matrix: Tensor) -> int:
    """Elements from a row to the next; columns must lie side by side."""
    assert matrix.stride(1) == 1 or matrix.shape[1] == 1
    return matrix.stride(0)


def three_sides(sides: Sequence[int]) -> tuple[int, ...]:
    """Depth, height and width; 1 for a dimension that there is not."""
    return (*[1] * (3 - len(sides)), *sides)


def _empty_moments(like: Tensor, channels: int) -> Moments:
    values = torch.empty(2, channels, dtype=accumulation_type(like.dtype), device=like.device)
    return Moments(values[0], values[1])
