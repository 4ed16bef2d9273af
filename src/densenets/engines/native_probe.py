"""A trial of an exported file in a process of its own, before an engine's native code opens it in this one.

ONNX and IR files are read by parsers in C++, which a hostile file can crash, or make take all memory or
never end. So a child process with limits of time and memory opens the file first, runs it on one black
image, and tells what stands in its metadata: `python -m densenets.engines.native_probe ENGINE SIZE ...`, with
the content on standard input, that is opened afterwards. Needs no PyTorch, for the child to start soon.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from densenets.data.preprocessing import Preprocessing
from densenets.engines.session import Session
from densenets.errors import InputError
from densenets.names import one_line
from densenets.schema import parse_json, read
from densenets.subprocess_jobs import failure

_SECONDS = 120  # of the clock; a DenseNet-121 takes two, on a busy machine some more
_MEMORY, _PER_BYTE = 8 * 2**30, 20  # bytes of address space, of which engines reserve more than they use


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
    command = [sys.executable, "-P", "-m", __name__, engine, *(str(len(content)) for content in contents)]
    try:
        done = subprocess.run(
            command, input=b"".join(contents), capture_output=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{file} was not opened: {engine} had not read and run it after {_SECONDS} s; it is broken "
            "or hostile"
        ) from error
    if done.returncode:
        reason = failure(done.returncode, done.stderr.decode(errors="replace").splitlines())
        raise InputError(
            f"{file} was not opened: {engine} failed over it ({reason:.200}); it is broken or hostile"
        )
    answer = parse_json(
        done.stdout.splitlines()[-1] if done.stdout else b"", f"{engine} gave no answer over {file}"
    )
    probed = read(ProbedFile, answer, f"the answer of {engine} over {file}")
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


def main(arguments: Sequence[str]) -> None:
    """Answer with what is found in the content on standard input, as JSON."""
    engine, *sizes = arguments
    contents = [sys.stdin.buffer.read(int(size)) for size in sizes]
    _limit(_MEMORY + _PER_BYTE * sum(map(len, contents)))
    metadata: dict[str, str] = {}
    logits: tuple[int, ...] = ()
    error = ""
    try:
        session = _SESSIONS[engine](contents)
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


def _limit(memory: int) -> None:
    """Limit this process' address space, and let a crash leave no file; not on Windows, which can't."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1:])
