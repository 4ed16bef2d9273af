"""The process that measures one thing: `python -m densenets.profiling.worker JOB`.

A job is JSON: a `StepJob`, or a `MachineJob` for the machine itself. The result is the last line on standard
output, as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import torch

from densenets.files import json_text
from densenets.machine import device_name
from densenets.ops.backends.cpp.kernels import CppKernels
from densenets.ops.backends.cpp.library import availability
from densenets.profiling.timed_step import measure_memory, measure_time
from densenets.profiling.worker_jobs import MachineJob, MachinePeaks, Peak, StepJob
from densenets.schema import read

_PRODUCT_SIDE, _PRODUCTS = 2048, 5
_PEAK_SECONDS, _PEAKS = 0.2, 5


def main() -> None:
    """Do the job of the command line."""
    sys.stdout.write(json_text(do_job(json.loads(sys.argv[1]))) + "\n")


def do_job(fields: dict[str, Any]) -> dict[str, Any]:
    """The answer to a job, both as JSON holds them."""
    if "step" not in fields:
        return measure_machine(read(MachineJob, fields, "not a job")).to_dict()
    job = StepJob.from_dict(fields)
    measure = measure_time if job.quantity == "time" else measure_memory
    return dataclasses.asdict(measure(job.step, job.protocol))


def measure_machine(job: MachineJob) -> MachinePeaks:
    """Measure the most that the processor computes in each precision."""
    if job.threads:
        torch.set_num_threads(job.threads)
    return MachinePeaks(
        device=device_name(torch.device("cpu")),
        threads=torch.get_num_threads(),
        peaks={precision: _peak(getattr(torch, precision)) for precision in job.precisions},
    )


def _peak(dtype: torch.dtype) -> Peak:
    is_available, instruction_set = availability()
    if not is_available:
        return Peak(gigaflops=_product_peak(dtype), measured_by="matrix product")
    kernels = CppKernels()
    peaks = [kernels.peak(dtype, torch.get_num_threads(), _PEAK_SECONDS) for _ in range(_PEAKS)]
    in_matrices = instruction_set == "amx" and dtype == torch.bfloat16
    return Peak(gigaflops=max(peaks), measured_by="AMX" if in_matrices else "FMA")


def _product_peak(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_PRODUCT_SIDE, _PRODUCT_SIDE, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(_PRODUCTS):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * _PRODUCT_SIDE**3 / min(seconds) / 1e9


if __name__ == "__main__":
    main()
