"""The options of `densenets analyze`, as dataclasses: the docstrings are the help. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where an analysis goes."""

    out: Path = Path("analysis")
    """Folder for the data (JSON, CSV) and the figure (PNG, SVG)."""
    json: bool = False
    """Print the data as JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(OutputOptions, Generic[Config]):
    """An analysis, and where its data and its figure go."""

    config: Config


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(AnalysisOptions[Config], Generic[Config]):
    """An analysis of a trained network, and where its data and its figure go."""

    checkpoint: Path
    """A run's folder or a checkpoint file."""


@dataclass(frozen=True, kw_only=True)
class EfficiencyOptions(OutputOptions):
    """Error against parameters, multiply-adds, training time and memory, over finished runs."""

    runs: tuple[Path, ...]
    """Folders of finished runs; those that differ in their seed alone are one row."""
    measure: bool = True
    """Measure a training step where the run's folder does not hold one already."""


@dataclass(frozen=True, kw_only=True)
class SaliencyOptions(OutputOptions):
    """Where in a picture each dense block looks: Grad-CAM behind every block of a trained DenseNet."""

    checkpoint: Path
    """A run's folder or a checkpoint file."""
    images: tuple[Path, ...]
    """Pictures, and folders of pictures."""
    class_name: str = ""
    """The class that is explained; by default each picture's likeliest."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
