"""`densenets benchmark MODEL`: time and memory of a network here, beside torchvision's."""

from __future__ import annotations

from densenets.cli.arguments import default_shape, parse, read_shape
from densenets.errors import InputError
from densenets.files import json_text, write_json
from densenets.models.registry import named_config
from densenets.profiling.benchmark_config import BenchmarkOptions


def benchmark(arguments: list[str]) -> None:
    """Measure a network, and print a table or JSON."""
    options = parse(BenchmarkOptions, arguments, "benchmark")
    shape = read_shape(options.input) if options.input else default_shape(named_config(options.model))
    config = options.to_config(shape)
    from densenets.profiling.runner import run_benchmarks
    from densenets.profiling.table import print_benchmark

    report = run_benchmarks({options.model: config})
    print(json_text(report.to_dict())) if options.json else print_benchmark(report)
    if options.out:
        write_json(options.out, report.to_dict())
    if report.failure:
        raise InputError(report.failure)
