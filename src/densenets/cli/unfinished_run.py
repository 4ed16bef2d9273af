"""What verbs that take a run say of one that has not come to its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densenets.names import tell
from densenets.records import has_result


def tell_if_unfinished(run: Path, details: Mapping[str, Any]) -> None:
    """Say on standard error of which epoch the checkpoint of a run is that still trains, or was stopped.

    Args:
        run: a run's folder, or a checkpoint file, of which nothing is said.
        details: of its checkpoint.
    """
    if run.is_dir() and not has_result(run):
        tell(f"{run} has not come to its end; its checkpoint is that after epoch {details.get('epoch', '?')}")
