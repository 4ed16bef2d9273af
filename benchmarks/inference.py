"""Time and memory of a forward pass in evaluation mode: torchvision's DenseNet-121 and ours, on the CPU.

    python benchmarks/inference.py [CASE ...] [--threads N] [--compile] [--out FILE]

Cases: batch-1 and batch-16, of 224x224. Prints JSON with device and versions, and tables on standard error.
Every variant has processes of its own; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from densenets.files import write_json
from densenets.profiling.benchmark_config import BenchmarkConfig
from densenets.profiling.runner import run_benchmarks
from densenets.profiling.table import print_benchmark

_BATCHES = {"batch-1": 1, "batch-16": 16}
_MODEL = "densenet121"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(_BATCHES)}; all without one")
    parser.add_argument("--steps", type=int, default=20, help="forward passes that are measured")
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
    if unknown := set(arguments.cases) - set(_BATCHES):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(_BATCHES)}")
    report = run_benchmarks(
        {
            name: BenchmarkConfig(
                model=_MODEL,
                batch=_BATCHES[name],
                input="3x224x224",
                mode="inference",
                compile=arguments.compile,
                steps=arguments.steps,
                rounds=arguments.rounds,
                threads=arguments.threads,
                keep_freed_memory=arguments.keep_freed_memory,
            )
            for name in arguments.cases or _BATCHES
        }
    )
    print_benchmark(report, stderr=True)
    if arguments.out:
        write_json(arguments.out, report.to_dict())
    print(json.dumps(report.to_dict(), indent=2))


if __name__ == "__main__":
    main()
