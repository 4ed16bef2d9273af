"""Where a training step of the fused execution goes: its blocks and transitions, and everything else.

    python benchmarks/profile_step.py [MODEL] [--batch N] [--input 3x32x32] [--bf16] [--steps N] [--by-unit]

Every call of a C++ kernel is timed on its way, so the shares add up to the step. A block is one call; with
--by-unit its layers are run unit by unit, to part 1x1 and 3x3 convolutions. Prints JSON with device and
versions, and a table on standard error: time in a step (medians), and of the products the share of the
machine's FMA peak, counting 36 multiplications for a tile of a 3x3 convolution although 16 are made.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from densenets.machine import environment, keep_freed_memory
from densenets.ops.backends import backend as backend_module
from densenets.ops.backends.backend import CPP, EAGER
from densenets.ops.backends.block_plan import BlockPlan, BlockResult, BlockTensors
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.unit import BatchNormGradCorrection, Moments, Unit, UnitParameters
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.networks import random_batch, step_network

_PEAK_SECONDS, _WARMUP = 0.2, 5
_seconds: dict[str, float] = defaultdict(float)
_flops: dict[str, float] = defaultdict(float)


class TimedKernels(CppKernels):
    """The C++ kernels with a stopwatch."""

    def block_forward(self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan) -> None:
        with _Stopwatch("layers of blocks forward", 2 * _block_multiply_adds(result, tensors)):
            super().block_forward(result, tensors, plan)

    def block_backward(
        self, result: BlockResult, tensors: BlockTensors, plan: BlockPlan, gradients: Tensor, sums: Tensor
    ) -> list[UnitParameters]:
        with _Stopwatch("layers of blocks backward", 4 * _block_multiply_adds(result, tensors)):
            return super().block_backward(result, tensors, plan, gradients, sums)

    def statistics(self, x: Tensor) -> Moments:
        with _Stopwatch("statistics, correction"):
            return super().statistics(x)

    def forward(self, unit: Unit, out: Tensor, *, statistics: bool) -> Moments | None:
        with _Stopwatch(f"{_label(unit)} forward", 2 * _multiply_adds(unit)):
            return super().forward(unit, out, statistics=statistics)

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
        with _Stopwatch(f"{_label(unit)} backward", 4 * _multiply_adds(unit)):
            return super().backward(unit, gradient, correction, x_gradient, accumulate=accumulate, sums=sums)

    def apply_correction(self, gradient: Tensor, correction: BatchNormGradCorrection, out: Tensor) -> None:
        with _Stopwatch("statistics, correction"):
            super().apply_correction(gradient, correction, out)

    def stem_forward(self, unit: Unit, out: Tensor, winners: Tensor) -> None:
        with _Stopwatch("stem"):
            super().stem_forward(unit, out, winners)

    def stem_backward(
        self, unit: Unit, gradient: Tensor, winners: Tensor, x_gradient: Tensor, *, batch_statistics: bool
    ) -> UnitParameters:
        with _Stopwatch("stem"):
            return super().stem_backward(
                unit, gradient, winners, x_gradient, batch_statistics=batch_statistics
            )


class _Stopwatch:
    def __init__(self, name: str, flops: float = 0) -> None:
        self.name, self.flops = name, flops

    def __enter__(self) -> None:
        self.began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        _seconds[self.name] += time.perf_counter() - self.began
        _flops[self.name] += self.flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="densenet-bc-100-12")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--input", default="3x32x32", help="channels and sides")
    parser.add_argument("--bf16", action="store_true", help="under bfloat16 autocast")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--by-unit", action="store_true", help="run blocks unit by unit")
    arguments = parser.parse_args()
    keep_freed_memory()
    config = BenchmarkConfig(
        model=arguments.model,
        batch=arguments.batch,
        input=arguments.input,
        variants=("fused-bf16" if arguments.bf16 else "fused",),
    )
    with timed_backend(by_unit=arguments.by_unit):
        report = profile(config, arguments.steps)
    _print(report)
    print(json.dumps(report, indent=2))


@contextlib.contextmanager
def timed_backend(*, by_unit: bool) -> Iterator[None]:
    """Fused executions run in the timed kernels; what was there before is put back."""
    before = backend_module.BACKENDS
    backend_module.BACKENDS = (replace(CPP, load=TimedKernels, runs_block=not by_unit), EAGER)
    try:
        yield
    finally:
        backend_module.BACKENDS = before


def profile(config: BenchmarkConfig, steps: int) -> dict[str, object]:
    """Medians over the steps of what each part takes, and of the whole step."""
    (variant,) = config.measured_variants
    config_of_step, device = config.step(variant), torch.device("cpu")
    network, (images, labels) = step_network(config_of_step, device), random_batch(config_of_step, device)
    measured: dict[str, list[float]] = defaultdict(list)
    for step in range(_WARMUP + steps):
        _seconds.clear()
        _flops.clear()
        began = time.perf_counter()
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.precision == "bfloat16"):
            loss = cross_entropy(network(images).float(), labels)
        loss.backward()
        whole = time.perf_counter() - began
        if step >= _WARMUP:
            for part, seconds in _seconds.items():
                measured[part].append(seconds)
            measured["first convolution, classifier, PyTorch, Python"].append(whole - sum(_seconds.values()))
            measured["step"].append(whole)
    peak = CppKernels().peak(getattr(torch, variant.precision), torch.get_num_threads(), _PEAK_SECONDS)
    medians = {part: statistics.median(seconds) for part, seconds in measured.items()}
    return {
        **environment(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "config": config.to_dict(),
        "peak_gigaflops": peak,
        "parts": [
            {
                "part": part,
                "seconds": median,
                "share_of_step": median / medians["step"],
                "share_of_peak": _flops[part] / median / 1e9 / peak if _flops[part] else None,
            }
            for part, median in medians.items()
        ],
    }


def _label(unit: Unit) -> str:
    if unit.pool:
        return "transition"
    return f"{'x'.join(map(str, unit.weight.shape[2:]))} convolution"


def _multiply_adds(unit: Unit) -> int:
    return unit.out_pixels * unit.weight.numel()


def _block_multiply_adds(result: BlockResult, tensors: BlockTensors) -> int:
    pixels = result.features.numel() // result.features.shape[-1]
    return pixels * sum(parameters.weight.numel() for parameters in tensors.parameters)


def _print(report: dict[str, object]) -> None:
    table = Table("part", "ms", "share of step", "share of FMA peak")
    for row in report["parts"]:  # type: ignore[attr-defined]
        peak = row["share_of_peak"]
        table.add_row(
            row["part"],
            f"{1000 * row['seconds']:.1f}",
            f"{row['share_of_step']:.0%}",
            f"{peak:.0%}" if peak else "",
        )
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
