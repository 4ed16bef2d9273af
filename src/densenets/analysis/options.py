"""The options of `densenets analyze`, as dataclasses: the docstrings are the help. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where an analysis goes."""

    out: Path = Path("analysis")
    """Folder for the data (JSON, CSV) and the figure (PNG, SVG)."""
    json: bool = False
    """Print the data as JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class ReuseOptions(OutputOptions):
    """The heat map of feature reuse (paper, Fig. 5) of a trained DenseNet."""

    checkpoint: Path
    """A run's folder or a checkpoint file."""
    normalization: Literal["mean", "l1", "share", "largest"] = "mean"
    """mean absolute weight; l1: sum by the source's maps; share: of the layer's sum; largest: by its largest."""
    with_scale: bool = False
    """Multiply weights by the scale of the batch normalisation before them."""
