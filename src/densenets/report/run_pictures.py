"""Pictures of a finished run: learning curves and confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densenets.analysis.confusion_figure import write_confusion
from densenets.analysis.curves_figure import write_curves
from densenets.analysis.learning_curves import epochs_of, evaluation_split
from densenets.files import read_json_lines


def write_run_pictures(result: Mapping[str, Any], folder: Path) -> None:
    """Draw curves.png, confusion.png and their SVGs into the folder of a run.

    Args:
        result: what `densenets.training.loop.train` returns.
        folder: the run's.

    Raises:
        InputError: the metrics are broken, the folder cannot be written, or the disk is full.
    """
    epochs = epochs_of(read_json_lines(folder / "metrics.jsonl"))
    write_curves(epochs, result["run"], evaluation_split(epochs), folder / "curves")
    classes = [row["class"] for row in result["per_class"]]
    write_confusion(result["confusion"], classes, folder / "confusion")
