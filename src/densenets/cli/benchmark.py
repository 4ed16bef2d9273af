"""`densenets benchmark MODEL`: time and memory of a network here, beside torchvision's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from densenets.cli.command import Command
from densenets.errors import InputError
from densenets.files import json_text, write_json
from densenets.profiling.benchmark_config import BenchmarkConfig


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """A benchmark of a network, and where its result goes."""

    config: BenchmarkConfig
    json: bool = False
    """Print JSON."""
    out: Path | None = None
    """File for the JSON."""


def benchmark(options: BenchmarkOptions) -> None:
    """Measure a network, and print a table or JSON."""
    from densenets.profiling.runner import run_benchmarks
    from densenets.profiling.table import print_benchmark

    report = run_benchmarks({options.config.model: options.config})
    print(json_text(report.to_dict())) if options.json else print_benchmark(report)
    if options.out:
        write_json(options.out, report.to_dict())
    if report.failure:
        raise InputError(report.failure)


COMMAND = Command(title="benchmark", options=BenchmarkOptions, call=benchmark, flat=True)
