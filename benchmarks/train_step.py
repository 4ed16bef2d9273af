"""Time and memory of a training step: torchvision's DenseNet and ours, on the CPU.

    python benchmarks/train_step.py [CASE ...] [--threads N] [--compile] [--out FILE]

Cases: bc-100-12 (batch 64 of 32x32), densenet121 (batch 16 of 224x224), densenet121-3d (batch 2 of 64x64x64,
float32), depth (memory in use of -BC networks of 40 to 250 layers, k = 12, batch 16, float32). Prints JSON
with device and versions, and tables on standard error. Every variant has processes of its own; nothing else
should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from densenets.files import write_json
from densenets.models.layer_table import layer_table
from densenets.models.registry import named_config
from densenets.profiling.benchmark_config import BenchmarkConfig, MemoryBenchmarkConfig
from densenets.profiling.benchmark_report import BenchmarkCase, DepthLine, MeasuredVariant, line_residual
from densenets.profiling.runner import run_benchmarks
from densenets.profiling.step_settings import DENSE_EXECUTIONS
from densenets.profiling.table import print_benchmark, print_depths

_CASES = ("bc-100-12", "densenet121", "densenet121-3d", "depth")
_DEPTHS, _DEPTH_SIDES = range(40, 251, 30), (32, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(_CASES)}; all without one")
    parser.add_argument("--steps", type=int, default=7, help="steps that are measured")
    parser.add_argument("--rounds", type=int, default=1, help="how often all variants are measured, in turn")
    parser.add_argument(
        "--threads", type=int, default=0, help="that PyTorch computes with; 0 for its own choice"
    )
    parser.add_argument("--compile", action="store_true", help="torchvision under torch.compile too")
    parser.add_argument(
        "--keep-freed-memory", action="store_true", help="let all variants keep what they free"
    )
    parser.add_argument("--out", type=Path, help="file for the JSON")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(_CASES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(_CASES)}")
    cases = {}
    for name in arguments.cases or _CASES:
        cases |= depth_cases(arguments) if name == "depth" else {name: timed_case(name, arguments)}
    report = run_benchmarks(cases)
    by_depth = {name: case for name, case in report.cases.items() if name.startswith("depth-")}
    others = {name: case for name, case in report.cases.items() if name not in by_depth}
    data = report.to_dict()
    if others:
        print_benchmark(dataclasses.replace(report, cases=others), stderr=True)
    if by_depth:
        lines = depth_lines(list(by_depth.values()))
        data["depth"] = [dataclasses.asdict(line) for line in lines]
        print_depths(lines, stderr=True)
    if arguments.out:
        write_json(arguments.out, data)
    print(json.dumps(data, indent=2))


def timed_case(name: str, arguments: argparse.Namespace) -> BenchmarkConfig:
    model, batch, shape = {
        "bc-100-12": ("densenet-bc-100-12", 64, "3x32x32"),
        "densenet121": ("densenet121", 16, "3x224x224"),
        "densenet121-3d": ("densenet121", 2, "3x64x64x64"),
    }[name]
    return BenchmarkConfig(
        model=model,
        batch=batch,
        input=shape,
        precision="float32" if name == "densenet121-3d" else "both",
        compile=arguments.compile,
        steps=arguments.steps,
        rounds=arguments.rounds,
        threads=arguments.threads,
        keep_freed_memory=arguments.keep_freed_memory,
    )


def depth_cases(arguments: argparse.Namespace) -> dict[str, BenchmarkConfig]:
    return {
        f"depth-{depth}": MemoryBenchmarkConfig(
            model=depth_model(depth),
            batch=16,
            input="x".join(map(str, (3, *_DEPTH_SIDES))),
            variants=DENSE_EXECUTIONS,
            threads=arguments.threads,
            keep_freed_memory=arguments.keep_freed_memory,
        )
        for depth in _DEPTHS
    }


def depth_lines(cases: list[BenchmarkCase]) -> list[DepthLine]:
    """Memory of each execution at each depth, and its distance from a straight line.

    Also without weights and their gradients, which grow with the square of the depth.
    """
    lines = []
    for variant in DENSE_EXECUTIONS:
        in_use: dict[int, int | None] = {}
        for depth, case in zip(_DEPTHS, cases, strict=True):
            (row,) = (row for row in case.rows if row.variant.name == variant)
            in_use[depth] = row.in_use_bytes if isinstance(row, MeasuredVariant) else None
        known = {depth: number for depth, number in in_use.items() if number is not None}
        activations = [number - weight_bytes(depth) for depth, number in known.items()]
        enough = len(known) > 2
        lines.append(
            DepthLine(
                variant=variant,
                in_use_bytes=in_use,
                residual=line_residual(list(known), list(known.values())) if enough else None,
                activations_residual=line_residual(list(known), activations) if enough else None,
            )
        )
    return lines


def weight_bytes(depth: int) -> int:
    """Bytes of the network's parameters and their gradients, in float32."""
    name = depth_model(depth)
    return 8 * layer_table(name, named_config(name), _DEPTH_SIDES).total("parameters")


def depth_model(depth: int) -> str:
    return f"densenet-bc-{depth}-12"


if __name__ == "__main__":
    main()
