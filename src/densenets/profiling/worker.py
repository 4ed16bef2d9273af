"""The process in which one variant is measured: `python -m densenets.profiling.worker JOB`.

A job is JSON: {"config": a BenchmarkConfig, "variant": name, "in_use": whether memory in use is measured
instead of time}, or {"threads": N, "precisions": [...]} for the machine itself. The result is the last line
on standard output, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from densenets.files import json_text
from densenets.machine import device_name, keep_freed_memory
from densenets.models.network import all_logits
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import availability
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.peak_memory import PeakMemory, give_back_freed_memory
from densenets.profiling.variant_networks import make_batch, variant_network
from densenets.profiling.variants import Variant, named_variant

_LEARNING_RATE = 0.01
_SMALLEST = "densenet-bc-10-4"
_PRODUCT_SIDE, _PRODUCTS = 2048, 5
_PEAK_SECONDS, _PEAKS = 0.2, 5


def main() -> None:
    """Do the job of the command line."""
    job = json.loads(sys.argv[1])
    if "variant" in job:
        measurement = measure_in_use if job["in_use"] else measure
        result = measurement(BenchmarkConfig.from_dict(job["config"]), named_variant(job["variant"]))
    else:
        result = measure_machine(job["threads"], job["precisions"])
    sys.stdout.write(json_text(result) + "\n")


def measure(config: BenchmarkConfig, variant: Variant) -> dict[str, Any]:
    """Seconds of each step and bytes of the peak, for a process that does nothing else before or after.

    Returns:
        seconds and warmup_seconds, one a step; peak_bytes above the process that has all libraries loaded
        (weights, activations, gradients, workspaces), and memory_measured_by; the loss of the first step,
        which all variants share but for rounding; whether freed memory was kept.
    """
    kept = keep_freed_memory() if config.keep_freed_memory else False
    if config.threads:
        torch.set_num_threads(config.threads)
    _load_libraries(config, variant)
    memory = PeakMemory()
    step = _make_step(config, variant)
    warmup_seconds, first_loss = _timed(step, config.warmup)
    if variant.compiled:
        # What the compiler needed while it compiled is no part of a step.
        memory.restart_peak()
    seconds, loss = _timed(step, config.steps)
    return {
        "seconds": seconds,
        "warmup_seconds": warmup_seconds,
        "peak_bytes": memory.read(),
        "memory_measured_by": memory.measured_by,
        "loss": loss if first_loss is None else first_loss,
        "kept_freed_memory": kept,
    }


def measure_in_use(config: BenchmarkConfig, variant: Variant) -> dict[str, Any]:
    """The peak without what the allocator holds in reserve, in a process of its own as well.

    Returns:
        in_use_bytes; None where that cannot be told.
    """
    if not give_back_freed_memory():
        return {"in_use_bytes": None}
    if config.threads:
        torch.set_num_threads(config.threads)
    _load_libraries(config, variant)
    memory = PeakMemory()
    step = _make_step(config, variant)
    _timed(step, 1)
    if variant.compiled:
        memory.restart_peak()
    _timed(step, 1)
    return {"in_use_bytes": memory.read() if memory.measured_by == "VmHWM" else None}


def measure_machine(threads: int, precisions: list[str]) -> dict[str, Any]:
    """What the processor calls itself, and the most that it computes in each precision.

    Returns:
        device; threads; peaks: precision -> gigaflops (10^9 additions and multiplications a second) and how
        they were measured, "FMA" or "AMX" (these instructions alone) or "matrix product" (what the library
        attains).
    """
    if threads:
        torch.set_num_threads(threads)
    return {
        "device": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "peaks": {precision: _peak(getattr(torch, precision)) for precision in precisions},
    }


def _load_libraries(config: BenchmarkConfig, variant: Variant) -> None:
    """Take steps of the smallest network: thread pools, libraries and lazy imports are then there."""
    smallest = dataclasses.replace(config, model=_SMALLEST, batch=2, sides=(8,) * len(config.sides))
    _timed(_make_step(smallest, variant), 1)


def _make_step(config: BenchmarkConfig, variant: Variant) -> Callable[[], Tensor]:
    """What is timed; it returns the loss."""
    network = variant_network(config, variant)
    images, labels = make_batch(config, variant)
    is_bfloat16 = variant.precision == "bfloat16"
    return (
        _training_step(network, images, labels, is_bfloat16)
        if config.mode == "train"
        else _inference_step(network, images, labels, is_bfloat16)
    )


def _training_step(
    network: nn.Module, images: Tensor, labels: Tensor, is_bfloat16: bool
) -> Callable[[], Tensor]:
    optimizer = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, is_bfloat16):
            # A network with companion classifiers trains them too.
            outputs = all_logits(network(images))
            loss = torch.stack([cross_entropy(logits.float(), labels) for logits in outputs]).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _inference_step(
    network: nn.Module, images: Tensor, labels: Tensor, is_bfloat16: bool
) -> Callable[[], Tensor]:
    network.eval()

    def step() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, is_bfloat16):
            return cross_entropy(network(images).float(), labels)

    return step


def _timed(step: Callable[[], Tensor], count: int) -> tuple[list[float], float | None]:
    """Seconds of each step, and the loss of the first (None without one)."""
    seconds, losses = [], []
    for _ in range(count):
        began = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - began)
        losses.append(loss)
    return seconds, losses[0].item() if losses else None


def _peak(dtype: torch.dtype) -> dict[str, Any]:
    is_available, instruction_set = availability()
    if not is_available:
        return {"gigaflops": _product_peak(dtype), "measured_by": "matrix product"}
    kernels = CppKernels()
    peaks = [kernels.peak(dtype, torch.get_num_threads(), _PEAK_SECONDS) for _ in range(_PEAKS)]
    in_matrices = instruction_set == "amx" and dtype == torch.bfloat16
    return {"gigaflops": max(peaks), "measured_by": "AMX" if in_matrices else "FMA"}


def _product_peak(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_PRODUCT_SIDE, _PRODUCT_SIDE, dtype=dtype) for _ in range(2))
    seconds, _ = _timed(lambda: torch.mm(a, b)[0, 0], _PRODUCTS)
    return 2 * _PRODUCT_SIDE**3 / min(seconds) / 1e9


if __name__ == "__main__":
    main()
