"""An evaluation as files: its numbers, and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densenets.analysis.confusion_figure import write_confusion
from densenets.files import write_json


def write_evaluation(facts: dict[str, Any], classes: Sequence[str], folder: Path) -> None:
    """Write evaluation.json, confusion.png and confusion.svg.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    write_confusion(facts["confusion"], classes, folder / "confusion")
    write_json(folder / "evaluation.json", facts)
