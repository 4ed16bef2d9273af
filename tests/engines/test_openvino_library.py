"""OpenVINO in a process that handles signals, and what it reports to its makers: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_exports import export_to, save_small_checkpoint, write_pictures

pytestmark = pytest.mark.slow  # OpenVINO takes seconds to be imported

_SIGNAL_AFTER_CLOSING = """
import signal, sys
from pathlib import Path
from densenets.engines.engine import read_exported

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
older, newer = (read_exported(Path(name)) for name in sys.argv[1:])
del older
del newer
signal.raise_signal(signal.SIGTERM)
"""


def run(*arguments: object, home: Path) -> str:
    """Run Python as for a user of this home, outside of what their telemetry takes for a test server."""
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**environment, "HOME": str(home), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_signal_is_handled_after_files_were_closed_in_their_order(tmp_path: Path) -> None:
    files = [export_to(tmp_path, "openvino", name) for name in ("older.xml", "newer.xml")]
    assert run("-c", _SIGNAL_AFTER_CLOSING, *files, home=tmp_path) == "handled\n"


def test_nothing_is_reported(tmp_path: Path) -> None:
    checkpoint = save_small_checkpoint(tmp_path / "network.safetensors", {"recipe": "digits"})
    for name in ("one", "two", "zero"):
        write_pictures(tmp_path / "pictures" / name, count=2)
    pictures, home = tmp_path / "pictures", tmp_path / "home"
    home.mkdir()
    options = ["--to", "openvino", "--images", pictures, "--int8", pictures, "--evaluate", pictures]
    run("-m", "densenets", "export", checkpoint, *options, "--most-loss", 100, home=home)
    assert (tmp_path / "network-int8.xml").exists()
    assert not (home / "intel").exists()  # where their telemetry counts, and has an identity of the user
