"""The library's name and sources. `setup.py` runs this file by itself: it imports nothing of the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

# On every system, and of no version of Python: ctypes loads it.
LIBRARY = "_kernels.so"


def fingerprint(folder: Path) -> str | None:
    """SHA-256 of the C++ sources and headers of a folder, names and contents; None where it has none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".cpp", ".h"))
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest() if files else None
