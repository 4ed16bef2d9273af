"""The forms of a network that PyTorch runs: a program of torch.export, and code compiled by AOTInductor."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram

from densenets.engines.description import EXTRA_FILE
from densenets.errors import InputError
from densenets.export.quiet import quiet


@dataclass(frozen=True)
class TorchExportDraft:
    """A network as a program of torch.export.

    Attributes:
        program: the network.
    """

    program: ExportedProgram

    def contents(self, metadata: Mapping[str, str]) -> Sequence[bytes]:
        """The .pt2 archive, with the texts as an extra file."""
        file = io.BytesIO()
        with quiet():
            torch.export.save(self.program, file, extra_files={EXTRA_FILE: json.dumps(dict(metadata))})
        return [file.getvalue()]


@dataclass(frozen=True)
class AotInductorDraft:
    """A network as a shared library for this kind of machine, with its weights.

    Attributes:
        files: that AOTInductor has compiled.
    """

    files: list[Any]

    def contents(self, metadata: Mapping[str, str]) -> Sequence[bytes]:
        """The .pt2 archive, with the texts as an extra file."""
        from torch.export.pt2_archive._package import package_pt2

        file = io.BytesIO()
        package_pt2(file, aoti_files=self.files, extra_files={EXTRA_FILE: json.dumps(dict(metadata))})
        return [file.getvalue()]


def aot_inductor_draft(program: ExportedProgram) -> AotInductorDraft:
    """Compile a traced network.

    Raises:
        InputError: there is no C++ compiler.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise InputError(
            "aot-inductor needs a C++ compiler, and there is none here; install g++ or clang++, or name one "
            "in CXX"
        ) from error
    with quiet(), torch.no_grad():
        files = torch._inductor.aot_compile(
            program.module(check_guards=False),
            program.example_inputs[0],
            options={"aot_inductor.package": True},
        )
    assert isinstance(files, list)
    return AotInductorDraft(files)
