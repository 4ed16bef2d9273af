"""Progress bars of long work, with elapsed and remaining time."""

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
    """A progress bar on standard error, shown only on a terminal and removed at its end.

    Args:
        counts: show the numbers of finished and of all tasks.
        estimate_over: seconds of the past from which the remaining time is estimated; long where one task can
            take hours, short where a run is resumed in its middle.
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
    """A progress bar for at most `count` tasks; yields a function to call with a task's name as it begins."""
    with progress_bar() as bar:
        task = bar.add_task("", total=count)
        begun = 0

        def announce(name: str) -> None:
            nonlocal begun
            bar.update(task, description=printable(name), completed=begun)
            begun += 1

        yield announce
