"""The progress bar of long work: what is done, how long it took, and how long it takes yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

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

from densenets.names import printable

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


@contextlib.contextmanager
def announcements(count: int) -> Iterator[Callable[[str], None]]:
    """A bar for at most `count` pieces of work; what is yielded is called with each before it begins."""
    with progress_bar() as bar:
        task = bar.add_task("", total=count)
        begun = 0

        def announce(what: str) -> None:
            nonlocal begun
            bar.update(task, description=printable(what), completed=begun)
            begun += 1

        yield announce
