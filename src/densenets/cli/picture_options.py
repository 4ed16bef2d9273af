"""What verbs that read pictures share: what is done about broken ones, and progress. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn, TypeVar

from rich.console import Console
from rich.progress import track

from densenets.errors import InputError
from densenets.names import tell

Item = TypeVar("Item")


def on_broken(*, skip: bool) -> Callable[[str], None]:
    """What is done with the error of a broken picture: it is told (--skip-broken), or ends the verb."""
    return _skip if skip else _stop


def shown(items: Iterable[Item], title: str, count: int) -> Iterable[Item]:
    """The items, with a progress bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    # Disabled elsewhere, or it would leave an empty line.
    return track(items, title, count, console=console, transient=True, disable=not console.is_terminal)


def _skip(reason: str) -> None:
    tell(f"skipped: {reason}")


def _stop(reason: str) -> NoReturn:
    raise InputError(f"{reason}; --skip-broken leaves such pictures out")
