"""`densenets report RUN`: one page that opens in a browser: result, mistakes, network, cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from densenets.cli.command import Command
from densenets.cli.unfinished_run import tell_if_unfinished
from densenets.extras import require
from densenets.report.overview_config import OverviewConfig


@dataclass(frozen=True, kw_only=True)
class ReportOptions(OverviewConfig):
    """The run or checkpoint that becomes a page, and what the page shows of it."""

    out: Path | None = None
    """The page; by default report.html in the run's folder, or beside the checkpoint."""


def report(options: ReportOptions) -> None:
    """Write the page of a run or a checkpoint, and print where it lies."""
    require("report", "report")
    from densenets.report.overview import make_overview
    from densenets.report.page import write_page

    overview = make_overview(options)
    tell_if_unfinished(overview.source, overview.details)
    path = options.out or overview.default_path
    size = write_page(overview, path)
    print(f"{path} ({size / 1e6:.1f} MB); open it in a browser")


COMMAND = Command(title="report", options=ReportOptions, call=report, flat=True)
