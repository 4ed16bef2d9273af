# ruff: noqa: T201 - prints are what it is for
"""Look for memory errors and undefined behaviour in the native kernels. By hand; pytest does not run this.

    python tests/ops/native/sanitize.py [--keep FOLDER]

Builds the library anew with GCC's AddressSanitizer and UndefinedBehaviorSanitizer, into a temporary folder
(or FOLDER, where a second run finds it again), and runs units of all the tests' shapes on it in a child
process: every instruction set and data type, 1 to 3 threads, forward and backward, in matrices that end where
their values end, so that a read past the last one is seen. Steps of small networks follow. Takes some
minutes, most of them for the compiler.
Prints each finding with its stack, and exits with 1 where there are any. Results are compared as in the
tests, but one that is off is only printed: the tests are the place to judge it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FLAGS = "-fsanitize=address,undefined -fno-omit-frame-pointer -g -O1"
LIBRARY = Path("densenets/ops/native")  # in the folder of a build
FINDING = re.compile(r"runtime error: |ERROR: AddressSanitizer")


def main() -> int:
    """Build, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, help="build into this folder, or use what it holds")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        run_units(arguments.run)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        return report(run_child(build(folder)))


def build(folder: Path) -> Path:
    """The folder of the sanitized library, which is built where it is missing."""
    library = folder / LIBRARY / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not library.is_file():
        print("building", library, flush=True)
        subprocess.run(
            [
                sys.executable,
                "setup.py",
                "build_ext",
                "--build-lib",
                folder,
                "--build-temp",
                folder / "objects",
            ],
            cwd=ROOT,
            env={**os.environ, "DENSENETS_CXXFLAGS": FLAGS},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    if not library.is_file():
        sys.exit("the library was not built")
    return library.parent


def run_child(folder: Path) -> subprocess.CompletedProcess[str]:
    """Python knows nothing of the sanitizer: its runtime has to be there before everything else.

    So has C++'s, whose exceptions it follows.
    """
    runtimes = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaks on purpose
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests/helpers")]),
    }
    return subprocess.run(
        [sys.executable, __file__, "--run", folder],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def report(child: subprocess.CompletedProcess[str]) -> int:
    """Print what was found; the exit code."""
    findings = len(FINDING.findall(child.stderr))
    if findings or child.returncode:
        print(child.stderr)
    print(f"{findings} findings; the units' process exited with {child.returncode}")
    return 1 if findings or child.returncode else 0


def run_units(folder: Path) -> None:
    """In the child: all the units, and how many they were."""
    import torch

    from densenets.ops.native import library

    library._FOLDER = folder
    from unit_checks import (
        check_accumulation,
        check_backward,
        check_batch_statistics,
        check_forward,
        check_stem,
    )
    from units import DTYPES, SHAPES, STEM_SHAPES, instruction_sets, random_shapes

    from densenets.ops.native.kernels import NativeKernels

    checks = (check_forward, check_backward, check_accumulation, check_batch_statistics)
    shapes = (*SHAPES, *random_shapes(16), *random_shapes(24, seed=1))
    cases = [(check, shape) for shape in shapes for check in checks]
    cases += [(check_stem, shape) for shape in STEM_SHAPES]
    for name in instruction_sets():
        for dtype in DTYPES:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                for check, shape in cases:
                    try:
                        check(NativeKernels(name), shape, dtype, margin=0)
                    except AssertionError as error:
                        print(f"off, {name}, {dtype}, {threads} threads: {check.__name__}, {shape}: {error}")
            print(f"{name}, {dtype}: {3 * len(cases)} checks ran", flush=True)
    run_networks(instruction_sets()[-1])


def run_networks(name: str) -> None:
    """In the child: steps of whole networks, whose blocks are single calls."""
    import torch
    from network_steps import CASES, case_config, case_images, step

    from densenets.models.densenet import DenseNet

    for case in CASES:
        for execution in ("fused", "fused-lean"):
            for training in (True, False):
                model = DenseNet(case_config(case), execution).train(training)
                x = case_images(model.config).float()
                for bfloat16 in (False, True):
                    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                        step(model, x)
    print(f"{name}: steps of {len(CASES)} networks ran", flush=True)


if __name__ == "__main__":
    sys.exit(main())
