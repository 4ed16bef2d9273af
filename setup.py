"""Builds the native kernels, and says which machines a wheel fits; all else is in pyproject.toml.

Where there is no C++ compiler, and on Windows, the package is installed without kernels, and says so when
it is asked. Where the compiler lacks an instruction set, they are built without it. Two variables of the
environment change what is built: DENSENETS_CXXFLAGS is added to the flags, DENSENETS_INSTRUCTION_SETS names
the instruction sets beside the portable code; what one of them has not itself it takes from those before it.
"""

import os
import platform
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

PACKAGE = "src/densenets/ops/backends/cpp"
FOLDER = f"{PACKAGE}/csrc"
SOURCES = runpy.run_path(f"{PACKAGE}/sources.py")
# No -ffast-math: NaN and infinity must come out where they come in. -g0: Python's own flags ask for debug
# information, five times the code. GCC 12 warns of its own AVX-512 headers (its bug 105593).
COMMON = [
    *["-std=c++17", "-O3", "-g0", "-fPIC", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden"],
    "-Wno-maybe-uninitialized",
]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mbmi2"]
# The portable code comes first: of functions that several objects have, the linker keeps the first one's.
PORTABLE = ["kernels_portable.cpp", "block.cpp", "checks.cpp", "layout.cpp", "workspace.cpp"]
DISPATCH = "dispatch.cpp"  # knows the instruction sets that were built, by macros
SETS = {}  # flags of each one's kernels_*.cpp
if platform.machine() in ("x86_64", "AMD64"):
    SETS = {
        "avx2": ["-mavx2", "-mfma"],
        "avx512": AVX512,
        "avx512_bf16": [*AVX512, "-mavx512bf16"],
        "amx": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
    }


class BuildKernels(build_ext):
    """Compiles each source with the flags of its instruction set, on all cores."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's name without a version of Python: ctypes loads it, and it knows nothing of Python."""
        return os.fspath(Path(*fullname.split(".")).with_name(SOURCES["LIBRARY"]))

    def build_extension(self, extension: Extension) -> None:
        """Compile and link; setuptools goes on without an optional extension that fails."""
        fingerprint = SOURCES["fingerprint"](Path(FOLDER))
        if self.editable_mode and self._is_in_place(fingerprint):
            return  # `make install` compiles while other packages are installed
        extra = os.environ.get("DENSENETS_CXXFLAGS", "").split()
        wanted = os.environ.get("DENSENETS_INSTRUCTION_SETS", " ".join(SETS)).split()
        flags = [*COMMON, f'-DDENSENETS_FINGERPRINT="{fingerprint}"', *extra]
        with ThreadPoolExecutor(_cores()) as pool:
            # The longest first.
            special = {
                name: pool.submit(self._compile, f"kernels_{name}.cpp", [*flags, *SETS[name]])
                for name in SETS
                if name in wanted
            }
            portable = [pool.submit(self._compile, source, flags) for source in PORTABLE]
        objects = [made for compiled in portable for made in compiled.result()]
        built = {
            name: compiled.result() for name, compiled in special.items() if not self._failed(name, compiled)
        }
        macros = [f"-DDENSENETS_{name.upper()}" for name in built]
        objects += self._compile(DISPATCH, [*flags, *macros])
        objects += [made for name in SETS if name in built for made in built[name]]
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, os.fspath(target), target_lang="c++", extra_postargs=["-pthread", *extra]
        )

    def _is_in_place(self, fingerprint):
        library = Path(PACKAGE, SOURCES["LIBRARY"])
        return library.is_file() and fingerprint.encode() in library.read_bytes()

    def _compile(self, source, flags):
        return self.compiler.compile([f"{FOLDER}/{source}"], output_dir=self.build_temp, extra_postargs=flags)

    def _failed(self, name, compiled):
        error = compiled.exception()
        if error is None:
            return False
        if not isinstance(error, CCompilerError):
            raise error
        self.warn(f"the native kernels are built without {name}: {error}")
        return True


class WheelOfPlatform(bdist_wheel):
    """A wheel for every Python 3: of one platform with kernels in it, of any without."""

    def get_tag(self) -> tuple[str, str, str]:
        """Tags of interpreter, ABI and platform, after the wheel's files have been put together."""
        has_kernels = any(Path(self.bdist_dir).rglob(SOURCES["LIBRARY"]))
        return "py3", "none", super().get_tag()[2] if has_kernels else "any"


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kernels():
    """The library; nothing on Windows, whose compiler has no vector types."""
    if sys.platform == "win32":
        print("densenets: no native kernels, which Windows' compiler cannot build")  # noqa: T201
        return []
    return [
        Extension(
            "densenets.ops.backends.cpp._kernels",
            [
                f"{FOLDER}/{source}"
                for source in (*PORTABLE, DISPATCH, *(f"kernels_{name}.cpp" for name in SETS))
            ],
            # All of them, on every machine: the fingerprint is of all.
            depends=[
                os.fspath(path) for path in sorted(Path(FOLDER).iterdir()) if path.suffix in (".cpp", ".h")
            ],
            language="c++",
            optional=True,
        )
    ]


setup(cmdclass={"build_ext": BuildKernels, "bdist_wheel": WheelOfPlatform}, ext_modules=_kernels())
