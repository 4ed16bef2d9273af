"""What is installed: packages, extras, the native kernels, compilers to build them. Needs no PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from densenets.errors import InputError
from densenets.extras import PACKAGES, Extra, missing_packages, pip_command
from densenets.ops.backends.backend import CPP
from densenets.ops.backends.cpp.library import load_library
from densenets.processor import instructions

# The base dependencies, as in pyproject.toml.
BASE_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "msgspec", "tyro", "rich")

# What changes which kernels are built and run, on how many threads, and which devices are seen.
VARIABLES = (
    "DENSENETS_INSTRUCTION_SET",
    "DENSENETS_INSTRUCTION_SETS",
    "DENSENETS_CXXFLAGS",
    "CXX",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)

# What a processor must have for the kernels of an instruction set, as dispatch.cpp asks it.
_NEEDED_INSTRUCTIONS: Mapping[str, frozenset[str]] = {
    "avx2": frozenset({"avx2", "fma"}),
    "avx512": frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    "avx512_bf16": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"}),
    "amx": frozenset({"avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}),
}
_SECONDS = 10  # that a compiler may take to say its version


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """A package that densenets needs.

    Attributes:
        name: of the package.
        version: None where it is not installed.
    """

    name: str
    version: str | None


@dataclass(frozen=True, kw_only=True)
class ExtraFacts:
    """An extra of densenets.

    Attributes:
        name: of the extra.
        versions: of its packages; None of one that is not installed.
        missing: its packages that are not installed.
        command: installs them.
    """

    name: Extra
    versions: Mapping[str, str | None]
    missing: tuple[str, ...]
    command: str


@dataclass(frozen=True, kw_only=True)
class KernelFacts:
    """The native kernels.

    Attributes:
        chosen: the instruction set that runs; None where there are no kernels.
        reason: why there are none, in a line; empty where there are.
        instruction_sets: those that were built and that this processor has, the best last.
        without: better ones that the processor has, but that were not built.
    """

    chosen: str | None
    reason: str
    instruction_sets: tuple[str, ...]
    without: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CompilerFacts:
    """A C++ compiler.

    Attributes:
        name: the command.
        path: of its program.
        version: the first line of what it says of itself.
    """

    name: str
    path: str
    version: str


def base_packages() -> tuple[PackageFacts, ...]:
    """The packages that densenets needs, with their versions."""
    return tuple(PackageFacts(name=name, version=_version(name)) for name in BASE_PACKAGES)


def extras() -> tuple[ExtraFacts, ...]:
    """Every extra."""
    return tuple(
        ExtraFacts(
            name=name,
            versions={package: _version(package) for package in packages},
            missing=tuple(missing_packages(name)),
            command=pip_command(name),
        )
        for name, packages in PACKAGES.items()
    )


def kernels() -> KernelFacts:
    """The native kernels of this installation."""
    sets: tuple[str, ...] = ()
    try:
        sets = load_library().instruction_sets
        chosen, reason = CPP.availability().reason, ""
    except InputError as error:
        chosen, reason = None, str(error)
    here = instructions()
    runnable = [name for name, needed in _NEEDED_INSTRUCTIONS.items() if needed <= here]
    without = tuple(name for name in runnable if sets and name not in sets)
    return KernelFacts(chosen=chosen, reason=reason, instruction_sets=sets, without=without)


def compilers() -> tuple[CompilerFacts, ...]:
    """The C++ compilers that a command finds; first the one that the environment asks for."""
    asked = os.environ.get("CXX", "").split()[:1]
    names = dict.fromkeys([*asked, "c++", "g++", "clang++", "cl"])
    found = {name: path for name in names if (path := shutil.which(name)) is not None}
    return tuple(
        CompilerFacts(name=name, path=path, version=_compiler_version(path)) for name, path in found.items()
    )


def variables() -> dict[str, str]:
    """The variables of the environment that are set, of those that matter."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _compiler_version(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not run: {error}"
    # Microsoft's tells of itself on standard error.
    lines = [line for line in (*done.stdout.splitlines(), *done.stderr.splitlines()) if line.strip()]
    return lines[0].strip() if lines else "it says nothing of itself"
