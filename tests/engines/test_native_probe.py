"""The trial of a file in a child process: whatever the engine does there, this process goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from densenets.engines import native_probe
from densenets.engines.native_probe import probe
from densenets.errors import InputError

# In the place of an engine: a module that the child process imports instead.
_ENGINE = """
class OnnxRuntimeSession:
    input_type, metadata = "float32", {{}}
    def __init__(self, content, threads):
        {body}
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the child's engine run a statement as it opens a file."""

    def replace(body: str) -> None:
        (tmp_path / "replaced.py").write_text(_ENGINE.format(body=body))
        (tmp_path / "sitecustomize.py").write_text(
            "import sys, replaced; sys.modules['densenets.engines.onnxruntime_engine'] = replaced"
        )
        source = Path(native_probe.__file__).parents[2]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(source))))

    return replace


def test_what_the_file_says_comes_back(engine: Callable[[str], None]) -> None:
    engine("self.metadata = {'format': content.decode()}")
    found = probe("onnxruntime", [b"text"], "file.onnx")
    assert (found.metadata, found.logits) == ({"format": "text"}, ())


def test_a_crash_is_one_line(engine: Callable[[str], None]) -> None:
    engine("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(
        InputError, match=r"file.onnx was not opened: onnxruntime failed over it \(killed by SIGSEGV\)"
    ):
        probe("onnxruntime", [b""], "file.onnx")


def test_an_engine_that_never_ends_is_stopped(
    engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_probe, "SECONDS", 2.0)
    engine("while True: pass")
    with pytest.raises(InputError, match="had not read and run it after 2 s"):
        probe("onnxruntime", [b""], "file.onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of memory")
def test_memory_is_limited(engine: Callable[[str], None]) -> None:
    engine("bytearray(2**40)")
    with pytest.raises(InputError, match="is no file that onnxruntime runs: MemoryError"):
        probe("onnxruntime", [b""], "file.onnx")


def test_a_refusal_is_one_line(engine: Callable[[str], None]) -> None:
    engine(r"raise RuntimeError('several\nlines \x1b[31m')")
    with pytest.raises(InputError, match=r"no file that onnxruntime runs: RuntimeError: several lines \\x1b"):
        probe("onnxruntime", [b""], "file.onnx")
