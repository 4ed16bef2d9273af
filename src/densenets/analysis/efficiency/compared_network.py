"""A network that is compared with others: its errors over the seeds, and what it costs. Needs no PyTorch."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from densenets.analysis.learning_curves import MeanErrors
from densenets.profiling.measured_step import StepFigures
from densenets.records import RunResult


@dataclass(frozen=True, kw_only=True)
class ComparedNetwork:
    """A network by one recipe, trained once a seed.

    Attributes:
        network: its name, or family and depth.
        series: label of its architecture in a figure's legend.
        recipe: name of the recipe.
        results: of the runs that have come to their end, one a seed.
        paper_error: top-1 error that the paper prints, in percent; None where it prints none.
        parameters: of the network.
        multiply_adds: of one image's forward pass.
        step: time and memory of a training step.
        batch: images of a step; None where that is not known.
        curves: errors by epoch, means over the seeds; empty where a figure does not show them.
    """

    network: str
    series: str
    recipe: str
    results: tuple[RunResult, ...]
    paper_error: float | None
    parameters: int
    multiply_adds: int
    step: StepFigures
    batch: int | None
    curves: tuple[MeanErrors, ...]

    @property
    def split(self) -> str:
        """The images of the errors: "test" or "validation"."""
        return next((result.split for result in self.results if result.split), "test")

    @property
    def errors(self) -> list[float]:
        """Top-1 error of each seed, in percent."""
        return [result.top1_error for result in self.results]

    @property
    def mean_error(self) -> float | None:
        """Mean of the errors; None without one."""
        return statistics.fmean(self.errors) if self.errors else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the errors over the seeds; None with fewer than two."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else None

    @property
    def error_text(self) -> str:
        """Mean and standard deviation of the errors, such as 9.25 ± 0.35; a dash without an error."""
        if self.mean_error is None:
            return "-"
        return f"{self.mean_error:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")

    @property
    def training_seconds(self) -> float | None:
        """Mean time of a run, with its evaluations after every epoch; None where no run's file tells it."""
        # An evaluation that was made anew, with --out, does not know how long training took.
        seconds = [result.training_seconds for result in self.results if result.training_seconds is not None]
        return statistics.fmean(seconds) if seconds else None
