# ruff: noqa: T201 - prints are what it is for
"""Read many mutated files of every kind, and count what comes of it. By hand; pytest does not run this.

    python tests/fuzz.py [--files 2000] [--seed 0] [--kinds checkpoint weights ...] [--keep FOLDER]

Each file follows from the seed, its kind and its number. A worker process reads it by the functions that the
verbs call. Right is that it is read, or refused by an InputError of one line, within SECONDS and with at most
MEMORY above what the process had; anything else is printed with its stack, kept in FOLDER, and makes the exit
code 1. A worker that takes longer is killed, and another goes on behind that file.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

SECONDS = 20  # for a file; nearly all take less than 0.2
MEMORY = 2**29  # bytes above those that the process had before; the files are smaller than 200 KB
ADDRESSES = 2**31  # bytes of addresses above those of a process that has read good files
RIGHT = ("read", "refused")


def main() -> int:
    """Start the workers and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="of each kind")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--kinds", nargs="*", default=[], help="all by default")
    parser.add_argument("--keep", type=Path, help="where files that were not handled well are kept")
    parser.add_argument("--work", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent / "helpers"))
    if arguments.work:
        work(arguments.kinds[0], arguments.seed, *arguments.work, arguments.keep)
        return 0
    from hostile_files import KINDS

    keep = (arguments.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))).resolve()
    wrong = total = 0
    for kind in arguments.kinds or KINDS:
        started, counts = time.perf_counter(), count(kind, arguments.seed, arguments.files, keep)
        found = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
        print(f"{kind}: {found}; {time.perf_counter() - started:.0f} s", flush=True)
        total += sum(counts.values())
        wrong += sum(number for outcome, number in counts.items() if outcome not in RIGHT)
    print(f"{total} files, {wrong} not handled well" + (f"; they lie in {keep}" if wrong else ""))
    return 1 if wrong else 0


def count(kind: str, seed: str, files: int, keep: Path) -> Counter[str]:
    """How often each outcome came of so many files of a kind."""
    counts: Counter[str] = Counter()
    done = 0
    while done < files:
        command = [sys.executable, __file__, "--kinds", kind, "--seed", seed, "--keep", str(keep)]
        with subprocess.Popen([*command, "--work", str(done), str(files)], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            begun = False  # the first line comes after the imports
            while True:
                ready, _, _ = select.select([worker.stdout], [], [], SECONDS if begun else 300)
                line = worker.stdout.readline().decode().strip() if ready else ""
                if not line:
                    worker.kill()
                    break
                if begun:
                    counts[line] += 1
                    done += 1
                begun = True
        if done < files:
            outcome = "died" if ready else "took too long"
            print(f"{kind} {seed}-{done}: the worker {outcome}", flush=True)
            counts[outcome] += 1
            done += 1
    return counts


def work(kind: str, seed: str, first: int, last: int, keep: Path) -> None:
    """Read the files of these numbers; prints a line when it begins, and one a file."""
    from hostile_files import KINDS, SUFFIXES, write_bad

    from densenets.errors import InputError
    from densenets.profiling.peak_memory import PeakMemory

    warnings.simplefilter("error")
    folder = Path(tempfile.mkdtemp())
    path = folder / f"file{SUFFIXES.get(kind, '')}"
    try:
        for number in range(8):  # what is imported or grows when first used
            KINDS[kind].make(path, number)
            with contextlib.suppress(InputError):
                KINDS[kind].read(path)
        gc.collect()
        gc.freeze()  # measuring memory collects what is garbage, which takes long over all of PyTorch
        sizes = Path("/proc/self/statm").read_text(encoding="utf-8").split()
        limit = int(sizes[0]) * os.sysconf("SC_PAGE_SIZE") + ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print("begun", flush=True)
        for number in range(first, last):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of writing tensors of rare kinds
                write_bad(kind, path, f"{seed}-{kind}-{number}")
            memory, outcome = PeakMemory(), "read"
            try:
                KINDS[kind].read(path)
            except InputError as error:
                outcome = refusal(error)
            except BaseException:
                outcome = "raised"
                print(f"{kind} {seed}-{number}: {traceback.format_exc()}", file=sys.stderr, flush=True)
            if memory.read() > MEMORY:
                outcome = "took too much memory"
            if outcome not in RIGHT:
                print(f"{kind} {seed}-{number}: {outcome}", file=sys.stderr, flush=True)
                keep.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if path.is_dir() else shutil.copy
                with contextlib.suppress(FileExistsError):
                    copy(path, keep / f"{seed}-{kind}-{number}{path.suffix}")
            print(outcome, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refusal(error: BaseException) -> str:
    """Whether an InputError is a right one: of one line, and not of an allocation that failed."""
    if "\n" in str(error) or len(str(error)) > 3000:
        print(f"not one line: {str(error)[:500]!r}", file=sys.stderr, flush=True)
        return "refused in many lines"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate" in str(cause):
            return "ran out of memory"
        cause = cause.__cause__
    return "refused"


if __name__ == "__main__":
    sys.exit(main())
