"""Choice of the engine, and opening of what the user names: a run, a checkpoint or an exported file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch

from densenets.checkpoint import read_checkpoint
from densenets.engines.description import (
    WEIGHTS_DIGEST,
    ExportDescription,
    Format,
    read_export_metadata,
)
from densenets.engines.exported_network import ExportedNetwork
from densenets.engines.native_probe import probe
from densenets.engines.session import Session
from densenets.engines.torch_engines import archive_metadata, open_aot_inductor, open_torch_export
from densenets.errors import InputError, unknown_name
from densenets.extras import require
from densenets.trained_network import TrainedNetwork

Engine = Literal["auto", "torch", "onnxruntime", "openvino", "aot-inductor"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# The engine of each form of file.
ENGINE_OF: Mapping[Format, Engine] = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "torch-export": "torch",
    "aot-inductor": "aot-inductor",
}
_SUFFIXES = (".onnx", ".xml", ".pt2")
_MOST_BYTES = 2**31 - 1  # of one file, which is what an ONNX file can have


def is_exported(path: Path) -> bool:
    """Whether a path names an exported file, by its ending, rather than a run or a checkpoint."""
    return path.suffix.lower() in _SUFFIXES and not path.is_dir()


def device_for(path: Path, device: str) -> str:
    """The device that "auto" is for what a path names: of exported files the CPU, whatever else there is."""
    return "cpu" if device == "auto" and is_exported(path) else device


def open_classifier(path: Path, engine: Engine = "auto", *, trust: bool = False) -> TrainedNetwork:
    """What a path names, ready to classify: a run's folder, a checkpoint, or an exported file in its engine.

    Args:
        path: of it.
        engine: that runs it; "auto" for the one that its form is for.
        trust: run the code that files of torch.export and AOTInductor hold.

    Raises:
        InputError: there is none; it is broken, hostile or another program's; the engine does not run it; it
            holds code and is not trusted; or a package is not installed.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if is_exported(path):
        return read_exported(path, engine, trust=trust)
    if engine not in ("auto", "torch"):
        form = next(form for form, own in ENGINE_OF.items() if own == engine)
        raise InputError(
            f"{engine} runs exported files, and {path} is none; export it with: "
            f"densenets export {path} --to {form}"
        )
    return read_checkpoint(path)


def read_exported(path: Path, engine: Engine = "auto", *, trust: bool = False) -> ExportedNetwork:
    """Open an exported file; see `open_classifier`."""
    suffix = path.suffix.lower()
    form: Format = "onnx" if suffix == ".onnx" else "openvino"
    contents = [_content(path)]
    if suffix == ".pt2":
        return _read_archive(path, contents[0], engine, trust=trust)
    _check_engine(path, form, engine)
    require("onnx" if form == "onnx" else "openvino", f"opening {path}")
    if form == "openvino":
        contents.append(_content(path.with_suffix(".bin")))
    probed = probe(ENGINE_OF[form], contents, path)
    description = read_export_metadata(probed.metadata, path)
    if form == "openvino":
        _check_weights(path, contents[1], probed.metadata)
    classes = len(description.network.classes)
    if probed.logits != (1, classes):
        raise InputError(
            f"{path} does not fit its own description: of one image it computes {probed.logits}, not the "
            f"logits of {classes} classes"
        )
    return ExportedNetwork(description, open_session(form, contents, description))


def open_session(form: Format, contents: Sequence[bytes], description: ExportDescription) -> Session:
    """Load a graph into its engine, in this process; the content is one that may be opened.

    Args:
        form: of the file.
        contents: of the file, or of an .xml file and its .bin.
        description: of the network.
    """
    threads, facts = torch.get_num_threads(), description.facts
    if form == "onnx":
        from densenets.engines.onnxruntime_engine import OnnxRuntimeSession

        return OnnxRuntimeSession(contents[0], threads)
    if form == "openvino":
        from densenets.engines.openvino_engine import OpenVinoSession

        return OpenVinoSession(contents, threads)
    open_code = open_torch_export if form == "torch-export" else open_aot_inductor
    return open_code(contents[0], description.metadata(), facts.input)


def _read_archive(path: Path, content: bytes, engine: Engine, *, trust: bool) -> ExportedNetwork:
    """Open a .pt2 archive, whose code runs, if it is trusted."""
    description = read_export_metadata(archive_metadata(content, path), path)
    form = description.facts.format
    if form not in ("torch-export", "aot-inductor"):
        raise InputError(f"{path} does not fit its own description: it says that it is of the form {form}")
    _check_engine(path, form, engine)
    if not trust:
        what = "a pickle" if form == "torch-export" else "a shared library"
        raise InputError(
            f"{path} holds code ({what}), which runs as it is opened, with all that you may do; if you know "
            "who made it, add --trust, or use an ONNX or OpenVINO file, which holds none"
        )
    return ExportedNetwork(description, open_session(form, [content], description))


def _check_engine(path: Path, form: Format, engine: Engine) -> None:
    if engine not in ("auto", ENGINE_OF[form]):
        raise InputError(
            f"{path} is of the form {form}, which {ENGINE_OF[form]} runs, not {engine}; leave --engine out"
        )


def _check_weights(path: Path, weights: bytes, metadata: Mapping[str, str]) -> None:
    """Check that the weights beside an .xml file are its own: those of another network may fit its graph."""
    if metadata.get(WEIGHTS_DIGEST) != hashlib.sha256(weights).hexdigest():
        raise InputError(
            f"{path.with_suffix('.bin')} does not hold the weights of {path}: it was changed, or is another "
            "file's; export both again"
        )


def _content(path: Path) -> bytes:
    """A file's whole content, which is what was tried in a child process and is opened here.

    Raises:
        InputError: there is no such file, or it is larger than any of ours.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path} is not a file; name one")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES + 1 >> 30} GiB, which no exported file is")
        return path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = f"there is no file {path}" if missing else f"{path} cannot be read: {error.strerror}"
        hint = (
            "; an .xml file of OpenVINO has its weights in a .bin beside it" if path.suffix == ".bin" else ""
        )
        raise InputError(reason + hint) from error
