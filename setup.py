"""Builds the native kernels; everything else about the package is in pyproject.toml.

Where there is no C++ compiler the package is installed without them, and says so when it is asked.
"""

import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "src/densenets/ops/native"
# No -ffast-math: NaN and infinity must come out where they come in.
COMMON = ["-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mbmi2"]
# The portable code comes first: of functions that several objects have, the linker keeps the first one's.
SOURCES = {"dispatch.cpp": [], "block.cpp": [], "kernels_portable.cpp": []}
if platform.machine() in ("x86_64", "AMD64"):
    SOURCES |= {
        "kernels_avx2.cpp": ["-mavx2", "-mfma"],
        "kernels_avx512.cpp": AVX512,
        "kernels_avx512_bf16.cpp": [*AVX512, "-mavx512bf16"],
        "kernels_amx.cpp": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
    }


class BuildKernels(build_ext):
    """Compiles each source with the flags of its instruction set."""

    def build_extension(self, extension: Extension) -> None:
        """Compile and link; setuptools goes on without an optional extension that fails."""
        extra = os.environ.get("DENSENETS_CXXFLAGS", "").split()
        objects = []
        for source, flags in SOURCES.items():
            objects += self.compiler.compile(
                [f"{FOLDER}/{source}"],
                output_dir=self.build_temp,
                depends=extension.depends,
                extra_postargs=[*COMMON, *flags, *extra],
            )
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, os.fspath(target), target_lang="c++", extra_postargs=["-pthread", *extra]
        )


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[
        Extension(
            "densenets.ops.native._kernels",
            [f"{FOLDER}/{source}" for source in SOURCES],
            depends=[os.fspath(header) for header in sorted(Path(FOLDER).glob("*.h"))],
            language="c++",
            optional=True,
        )
    ],
)
