"""`densenets report RUN`: one page that opens in a browser: result, mistakes, network, cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from densenets.cli.arguments import parse


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


def report(arguments: list[str]) -> None:
    """Write the page of a run or a checkpoint, and print where it lies."""
    options = parse(ReportOptions, arguments, "report")
    from densenets.evaluation import EvaluationOptions
    from densenets.report.overview import OverviewConfig, make_overview
    from densenets.report.write import write_page

    overview = make_overview(
        OverviewConfig(
            source=options.source,
            evaluation=EvaluationOptions(
                data=options.data,
                root=options.root,
                batch_size=options.batch_size,
                workers=options.workers,
                skip_broken=options.skip_broken,
            ),
            mistakes=options.mistakes,
            measure=options.measure,
            device=options.device,
        )
    )
    path = options.out or overview.default_path
    size = write_page(overview, path)
    print(f"{path} ({size / 1e6:.1f} MB); open it in a browser")
