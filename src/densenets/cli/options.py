"""The options of the command line's verbs, as dataclasses: the docstrings are the help. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation is made on, and how it is told."""

    run: Path
    """A run's folder or a checkpoint file."""
    data: str = ""
    """A named set, or a folder: its test/, else val/, else class folders; by default the run's own images."""
    root: Path | None = None
    """Where a named set lies (imagenet: the folder that holds val/)."""
    crops: Literal[1, 10] = 1
    """Of folders: the central crop, or ten (corners, centre, mirrored) whose logits are averaged."""
    column: int | None = None
    """Of a FractalNet: the column that runs alone, 0 the shallowest."""
    out: Path | None = None
    """Folder for evaluation.json and the confusion matrix as a picture."""
    json: bool = False
    """Print JSON."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 evaluates under autocast."""
    batch_size: int = 100
    """Images of a batch, on each process."""
    workers: int = 2
    """Processes that decode images of folders."""
    skip_broken: bool = False
    """Leave out images that cannot be decoded, naming them."""


@dataclass(frozen=True)
class PredictOptions:
    """Which pictures are classified, and how that is told."""

    run: Path
    """A run's folder or a checkpoint file."""
    files: tuple[Path, ...]
    """Pictures, and folders of pictures."""
    format: Literal["csv", "json"] = "csv"
    """A table, or a JSON object a line."""
    top: int = 5
    """How many classes a row names."""
    out: Path | None = None
    """File for the rows; without it they are printed."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    batch_size: int = 32
    """Pictures that are computed together."""
    skip_broken: bool = False
    """Leave out pictures that cannot be decoded, naming them."""


@dataclass(frozen=True)
class ConvertOptions:
    """Which weights of another program become a checkpoint, and what they do not say of themselves."""

    source: Path
    """A PyTorch or safetensors file with the weights of a DenseNet."""
    out: Path | None = None
    """The checkpoint, a .safetensors file; needed."""
    data: str = ""
    """The named set that it was trained on, such as cifar10; for the names of its classes and their size."""
    mean: tuple[float, ...] = ()
    """Of the pixels in 0 ... 1, for each channel, that training subtracted; without it that of --data."""
    std: tuple[float, ...] = ()
    """Of the pixels in 0 ... 1, for each channel, that training divided by; several are in use for CIFAR."""
    image_size: int = 0
    """Side of the network's input in pixels; 0 for that of --data, or 224 and 32 by the network's stem."""
    classes: Path | None = None
    """A text file of one class name a line, or the folder of class folders; without it those of --data."""


@dataclass(frozen=True)
class ReportOptions:
    """What becomes a page, and what it shows beside what is known already."""

    source: Path
    """A run's folder or a checkpoint file."""
    out: Path | None = None
    """The page; by default report.html in the run's folder, or beside the checkpoint."""
    data: str = ""
    """For the worst mistakes: a named set or a folder of class folders; without it what it was trained on."""
    root: Path | None = None
    """Where a named set lies."""
    mistakes: int = 12
    """How many of the worst mistakes are shown; 0 for none."""
    measure: bool = True
    """Measure time and memory of a training step on this machine, if that is not known already."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    batch_size: int = 100
    """Images of a batch while the mistakes are looked for."""
    workers: int = 2
    """Processes that decode images of folders."""
    skip_broken: bool = False
    """Leave out images that cannot be decoded, naming them."""


@dataclass(frozen=True)
class SummaryOptions:
    """Which network is shown, for what input."""

    model: str
    """A name of the zoo, a run's folder, a checkpoint, or dense-block for a bare block."""
    input: str = ""
    """Channels and sides, such as 3x32x32; by default those that the network was made for."""
    layers: int = 5
    """Of dense-block: its layers."""
    growth_rate: int = 4
    """Of dense-block: channels that a layer adds."""
    bottleneck: bool = False
    """Of dense-block: a 1x1 convolution before each 3x3."""
    num_classes: int = 0
    """Width of the classifier; 0 for the model's own."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ListOptions:
    """How a list is told."""

    json: bool = False
    """Print JSON."""
