"""The progress bar of long work: what is done, how long it took, and how long it takes yet."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_DAY = 86_400  # seconds


def progress_bar(*, counts: bool = True, estimate_over: float = _DAY) -> Progress:
    """A bar on standard error, where that is a terminal; gone when it is done.

    Args:
        counts: show how many of how many are done.
        estimate_over: seconds of the past from which the time left is estimated; long where a thing can take
            hours, short where a run begins in its middle.
    """
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *([MofNCompleteColumn()] if counts else []),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=estimate_over,
    )
