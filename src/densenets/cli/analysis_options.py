"""The options of `densenets analyze`, as dataclasses: the docstrings are the help. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

Config = TypeVar("Config")
DenseExecution = Literal["reference", "recompute", "fused", "fused-lean"]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where an analysis goes."""

    out: Path = Path("analysis")
    """Folder for the data (JSON, CSV) and the figure (PNG, SVG)."""
    json: bool = False
    """Print the data as JSON instead of a table."""


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions(OutputOptions, Generic[Config]):
    """What is analysed, and where the data and the figure go."""

    config: Config


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(AnalysisOptions[Config], Generic[Config]):
    """Which trained network is analysed, how, and where the data and the figure go."""

    checkpoint: Path
    """A run's folder or a checkpoint file."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(OutputOptions):
    """What measured steps have in common."""

    input: str = ""
    """Channels and sides, such as 3x64x64; by default the first network's own."""
    batch: int = 16
    """Images of a step."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes under autocast; what memory it takes is not predicted."""
    channels_last: bool = False
    """Memory format of weights and images, in all networks."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(StepOptions):
    """Peak training memory of a DenseNet against depth and batch, measured in every execution."""

    model: str
    """A name of the zoo."""
    batches: tuple[int, ...] = ()
    """Batches of the whole network; by default a quarter, a half and the whole of --batch."""
    scales: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of the dense layers that the networks of other depths have."""
    executions: tuple[DenseExecution, ...] = ("reference", "recompute", "fused", "fused-lean")
    """How the dense blocks run."""
    memory: str = ""
    """Find the largest batch that fits in so much, such as 8GiB."""

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batches of the whole network, ascending."""
        return self.batches or tuple(sorted({max(1, self.batch // 4), max(1, self.batch // 2), self.batch}))


@dataclass(frozen=True, kw_only=True)
class CostOptions(StepOptions):
    """What a training step costs, forward pass, backward pass and optimiser apart."""

    models: tuple[str, ...]
    """Names of the zoo; beside one DenseNet alone the ResNet of the nearest parameters is measured."""
    executions: tuple[DenseExecution, ...] = ("reference", "fused")
    """How dense blocks run."""


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
