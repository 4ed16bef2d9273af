# ruff: noqa: T201 - prints are what it is for
"""Look for memory errors and undefined behaviour in the native kernels; pytest does not run this.

    python tests/ops/backends/cpp/sanitize.py [--short] [--keep FOLDER]

Builds the library anew with GCC's AddressSanitizer and UndefinedBehaviorSanitizer, into a temporary folder
(or FOLDER, where a second run finds it again), and runs units of all the tests' shapes on it in a child
process: every instruction set and data type, 1 to 3 threads, forward and backward, in matrices that end where
their values end, so that a read past the last one is seen; without memory too. Then steps of small networks.
Takes some minutes, most of them for the compiler; --short, which `make sanitize` and CI run, about one: the
portable code and the best instruction set, with some of the shapes.
Prints each finding with its stack, and exits with 1 where there are any, or where a call that is broken on
purpose isn't found. Results are compared as in the tests, but one that is off is only printed: the tests are
the place to judge it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
FLAGS = "-fsanitize=address,undefined -fno-omit-frame-pointer -g1 -O1 -w"
FOLDER = Path("densenets/ops/backends/cpp")  # in the folder of a build
FINDING = re.compile(r"runtime error: |ERROR: AddressSanitizer")


def main() -> int:
    """Build, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keep", type=Path, help="build into this folder, or use what it holds")
    parser.add_argument("--short", action="store_true", help="two instruction sets and some shapes")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--broken", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        use_library(arguments.run)
        make_broken_call() if arguments.broken else run_units(short=arguments.short)
        return 0
    if shutil.which("gcc") is None:
        print("no compiler, so there are no native kernels to look at")
        return 0
    sys.path.insert(0, str(ROOT / "src"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = build((arguments.keep or Path(temporary)).resolve(), short=arguments.short)
        if not FINDING.search(run_child(folder, "--broken").stderr):
            print("the sanitizers don't see a read past the end of an array")
            return 1
        return report(run_child(folder, *["--short"] * arguments.short))


def build(folder: Path, *, short: bool) -> Path:
    """The folder of the sanitized library, which is built where these sources' is missing."""
    from densenets.ops.backends.cpp.sources import LIBRARY, fingerprint

    folder /= f"{fingerprint(ROOT / 'src' / FOLDER / 'csrc')}-{'short' if short else 'long'}"
    library = folder / FOLDER / LIBRARY
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
            env={**os.environ, "DENSENETS_CXXFLAGS": FLAGS, **(best_instruction_set() if short else {})},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    if not library.is_file():
        sys.exit("the library was not built")
    return library.parent


def best_instruction_set() -> dict[str, str]:
    """For the environment of a build, the set that the installed library would take, and its base."""
    from densenets.ops.backends.cpp.library import load_library

    sets = load_library().instruction_sets
    needed = [name for name in sets if name in ("avx512", sets[-1])]
    return {"DENSENETS_INSTRUCTION_SETS": " ".join(needed)}


def run_child(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
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
        [sys.executable, __file__, "--run", folder, *options],
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


def use_library(folder: Path) -> None:
    """In the child: the library is this folder's."""
    from densenets.ops.backends.cpp import library

    library._FOLDER = folder
    library.load_library()


def make_broken_call() -> None:
    """In the child: the statistics of twice as many values as there are."""
    from densenets.ops.backends.cpp.library import load_library

    values, moments = (ctypes.c_float * 4000)(), (ctypes.c_float * 2)()
    mean, variance = ctypes.byref(moments), ctypes.byref(moments, 4)
    load_library().functions.densenets_statistics(0, 0, 1, values, 8000, 1, 1, mean, variance)


def run_units(*, short: bool) -> None:
    """In the child: all the units, and how many they were."""
    import torch
    from unit_checks import (
        check_accumulation,
        check_backward,
        check_batch_statistics,
        check_forward,
        check_stem,
    )
    from units import DTYPES, SHAPES, STEM_SHAPES, instruction_sets, random_shapes

    from densenets.ops.backends.cpp.kernels import CppKernels

    checks = (check_forward, check_backward, check_accumulation, check_batch_statistics)
    shapes = SHAPES[::3] if short else (*SHAPES, *random_shapes(16), *random_shapes(24, seed=1))
    cases = [(check, shape) for shape in shapes for check in checks]
    cases += [(check_stem, shape) for shape in STEM_SHAPES]
    all_threads = (1, 3) if short else (1, 2, 3)
    for name in instruction_sets():
        for dtype in DTYPES:
            for threads in all_threads:
                torch.set_num_threads(threads)
                for check, shape in cases:
                    try:
                        check(CppKernels(name), shape, dtype, margin=0)
                    except AssertionError as error:
                        print(f"off, {name}, {dtype}, {threads} threads: {check.__name__}, {shape}: {error}")
            print(f"{name}, {dtype}: {len(all_threads) * len(cases)} checks ran", flush=True)
    run_without_memory()
    run_networks(instruction_sets()[-1], short=short)


def run_without_memory() -> None:
    """In the child: units whose first, second or third piece of memory is refused."""
    import torch
    from units import Shape, make

    from densenets.ops.backends.cpp.kernels import CppKernels
    from densenets.ops.backends.cpp.library import load_library, release_memory

    kernels, refused = CppKernels(), 0
    for shape in (Shape(2, (7, 5), 37, 17, kernel=3), Shape(2, (8, 6), 37, 17, pool=True)):
        example = make(shape, torch.float32, margin=0)
        x_gradient = torch.empty_like(example.unit.x)
        for number in (1, 2, 3):
            release_memory()
            load_library().functions.densenets_refuse_memory(number)
            try:
                kernels.backward(
                    example.unit, example.gradient, None, x_gradient, accumulate=False, sums=None
                )
            except MemoryError:
                refused += 1
    load_library().functions.densenets_refuse_memory(0)
    print(f"{refused} units without memory ran", flush=True)


def run_networks(name: str, *, short: bool) -> None:
    """In the child: steps of whole networks, whose blocks are single calls."""
    import torch
    from network_steps import CASES, case_config, case_images, step

    from densenets.models.densenet import DenseNet

    cases = ["bottleneck", "plain volume", "large stem"] if short else list(CASES)
    for case in cases:
        for execution in ("fused", "fused-lean"):
            for training in (True, False):
                model = DenseNet(case_config(case), execution).train(training)
                x = case_images(model.config).float()
                for bfloat16 in (False, True):
                    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                        step(model, x)
    print(f"{name}: steps of {len(cases)} networks ran", flush=True)


if __name__ == "__main__":
    sys.exit(main())
