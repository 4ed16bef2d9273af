"""A trial of an exported file in a process of its own, before an engine's native code opens it in this one.

ONNX and IR files are read by parsers in C++, which a hostile file can crash, or make take all memory or
never end. So a child process with limits of time and memory opens the file first, runs it on one black
image, and tells what stands in its metadata: `python -m` this module, and a job, with the content on
standard input, that is opened afterwards. Needs no PyTorch, for the child to start soon.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from densenets.data.preprocessing import Preprocessing
from densenets.engines.session import Session
from densenets.errors import InputError
from densenets.names import one_line
from densenets.process_limits import limit_process
from densenets.schema import parse_json, read
from densenets.subprocess_jobs import JobFailure, run_job

SECONDS = 120.0  # of the clock; a DenseNet-121 takes two, on a busy machine some more
_MEMORY, _PER_BYTE = 8 * 2**30, 20  # bytes of address space, of which engines reserve more than they use


@dataclass(frozen=True, kw_only=True)
class ProbeJob:
    """What a child process is asked to open.

    Attributes:
        engine: a key of `_SESSIONS`.
        sizes: bytes of each content on its standard input.
    """

    engine: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ProbedFile:
    """What a child process found in an exported file.

    Attributes:
        metadata: of the file.
        logits: shape of what it computes of one image; () of a file that does not say of what images.
        error: why the engine refuses it; "" where it runs.
    """

    metadata: dict[str, str]
    logits: tuple[int, ...]
    error: str


def probe(engine: str, contents: Sequence[bytes], file: object) -> ProbedFile:
    """Open a file's content in a child process, and run it on one image.

    Args:
        engine: a key of `_SESSIONS`.
        contents: of the file, or of the two that belong together.
        file: its name, for errors.

    Raises:
        InputError: the engine crashes over it, takes too long or too much memory, or refuses it.
    """
    job = {"engine": engine, "sizes": [len(content) for content in contents]}
    probed = run_job(__name__, job, ProbedFile, seconds=SECONDS, content=b"".join(contents))
    if isinstance(probed, JobFailure):
        failed = f"failed over it ({probed.reason:.200})"
        if probed.timed_out:
            failed = f"had not read and run it after {SECONDS:g} s"
        raise InputError(f"{file} was not opened: {engine} {failed}; it is broken or hostile")
    if probed.error:
        raise InputError(f"{file} is no file that {engine} runs: {probed.error}")
    return probed


def _open_onnx(contents: Sequence[bytes]) -> Session:
    from densenets.engines.onnxruntime_engine import OnnxRuntimeSession

    return OnnxRuntimeSession(contents[0], threads=1)


def _open_openvino(contents: Sequence[bytes]) -> Session:
    from densenets.engines.openvino_engine import OpenVinoSession

    return OpenVinoSession(contents, threads=1)


_SESSIONS: dict[str, Callable[[Sequence[bytes]], Session]] = {
    "onnxruntime": _open_onnx,
    "openvino": _open_openvino,
}


def main() -> None:
    """Answer with what is found in the content on standard input, as JSON."""
    job = read(ProbeJob, json.loads(sys.argv[1]), "not a job")
    contents = [sys.stdin.buffer.read(size) for size in job.sizes]
    limit_process(_MEMORY + _PER_BYTE * sum(job.sizes))
    metadata: dict[str, str] = {}
    logits: tuple[int, ...] = ()
    error = ""
    try:
        session = _SESSIONS[job.engine](contents)
        metadata = dict(session.metadata)
        if "preprocessing" in metadata:
            logits = _run(session, metadata["preprocessing"])
    except Exception as reason:  # engines raise anything over damaged files; only the file can be at fault
        error = one_line(
            f"{type(reason).__name__}: {reason}" if not isinstance(reason, InputError) else str(reason)
        )
    sys.stdout.write(json.dumps({"metadata": metadata, "logits": logits, "error": error[:500]}) + "\n")


def _run(session: Session, preprocessing: str) -> tuple[int, ...]:
    """The shape of the logits of a black image."""
    made = Preprocessing.from_dict(parse_json(preprocessing, "preprocessing is no JSON"))
    shape = (1, made.channels, made.image_size, made.image_size)
    if session.input_type not in ("float32", "uint8"):
        raise InputError(f"it reads images of {session.input_type}; float32 or uint8 is needed")
    return session.run(np.zeros(shape, session.input_type)).shape


if __name__ == "__main__":
    main()
