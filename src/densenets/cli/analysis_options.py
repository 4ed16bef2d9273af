"""The options of `densenets analyze`, as dataclasses: the docstrings are the help. Needs no PyTorch.

Where an analysis has a config, its options are that config's fields. Efficiency and saliency have none: their
functions take the runs, and the network and the pictures, that these options name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from densenets.errors import InputError

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The folder and the form of an analysis' result."""

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

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("name at least one run's folder, such as runs/demo")


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

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError("name at least one picture, or a folder of pictures")
