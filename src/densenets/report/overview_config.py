"""Options of a report. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from densenets.errors import InputError
from densenets.evaluation_options import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class OverviewConfig:
    """The run or checkpoint of a report, and what the report shows of it.

    Raises:
        InputError: a number is out of its range.
    """

    source: Path
    """A run's folder or a checkpoint file."""
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    """The images on which the worst mistakes are looked for."""
    mistakes: int = 12
    """How many of the worst mistakes are shown; 0 for none."""
    measure: bool = True
    """Measure time and memory of a training step on this machine, if that is not known already."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        if self.mistakes < 0:
            raise InputError(f"mistakes must be at least 0, got {self.mistakes}")
        if self.evaluation.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.evaluation.batch_size}")
