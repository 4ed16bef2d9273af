"""Files of torch.export and AOTInductor, .pt2 archives, in PyTorch on the CPU.

Such a file holds code: torch.export's a pickle, AOTInductor's a shared library. Whoever opens it runs that
code with all that this process may do, so it takes the user's word that the file is to be trusted. Only the
description is read without: of an archive, a zip file, it is an entry by itself.
"""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch

from densenets.engines.description import EXTRA_FILE
from densenets.engines.session import Array
from densenets.errors import InputError
from densenets.schema import parse_json, read

_MOST_METADATA = 64 * 2**20  # bytes


class TorchSession:
    """A program of torch.export, or a package of AOTInductor.

    Args:
        run: images -> logits.
        engine: its name.
        metadata: of the file.
        input_type: of the images.
    """

    def __init__(
        self, run: Callable[[torch.Tensor], Any], engine: str, metadata: Mapping[str, str], input_type: str
    ) -> None:
        self._run, self.metadata, self.input_type = run, metadata, input_type
        self.engine = f"{engine} {torch.__version__}"

    @torch.no_grad()
    def run(self, images: Array) -> Array:
        """Images N x C x H x W -> N x classes logits."""
        logits: torch.Tensor = self._run(torch.from_numpy(images))
        return logits.numpy()


def archive_metadata(content: bytes, file: object) -> dict[str, str]:
    """The texts that a .pt2 archive holds beside its code; none of it is run.

    Raises:
        InputError: it is no whole archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [
                entry for entry in archive.infolist() if entry.filename.endswith(f"/extra/{EXTRA_FILE}")
            ]
            if len(entries) != 1:
                return {}
            if entries[0].file_size > _MOST_METADATA:
                raise InputError(
                    f"{file} has a description of {entries[0].file_size} bytes, which none of ours has"
                )
            text = archive.read(entries[0])
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(
            f"{file} is not a whole .pt2 archive ({error}); it is truncated or another kind"
        ) from error
    error_start = f"{file} does not describe a network"
    return read(dict[str, str], parse_json(text, f"{error_start}: {EXTRA_FILE} is no JSON"), error_start)


def open_torch_export(content: bytes, metadata: Mapping[str, str], input_type: str) -> TorchSession:
    """Load a program of torch.export, which runs code of the file."""
    with warnings.catch_warnings():
        for kind in (DeprecationWarning, UserWarning):  # of PyTorch's own doing
            warnings.simplefilter("ignore", kind)
        program = torch.export.load(io.BytesIO(content))
    # Without the tracer's guards, which older versions set on sizes that vary; the caller checks sizes.
    return TorchSession(program.module(check_guards=False), "torch", metadata, input_type)


def open_aot_inductor(content: bytes, metadata: Mapping[str, str], input_type: str) -> TorchSession:
    """Load a package of AOTInductor, which runs code of the file."""
    from torch._inductor import aoti_load_package

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of GPUs that are not there
    try:
        package = aoti_load_package(io.BytesIO(content))
    finally:
        logging.disable(before)
    return TorchSession(package, "aot-inductor", metadata, input_type)
