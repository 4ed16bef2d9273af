"""Errors that a user can mend: one line that says what is wrong and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_LONGEST = 2000  # characters of an error


class InputError(ValueError):
    """What the user gave cannot be used. The command line prints it as one line and exits with 2.

    Names out of files may stand in the message: it is one line, and of no other than printable characters.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message[:_LONGEST].splitlines())
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(shown if len(message) <= _LONGEST else f"{shown}...")


class UnknownName(InputError):  # noqa: N818 - it is an InputError, and reads as one
    """Nothing has the name that the user gave."""


class NotFinite(InputError):  # noqa: N818 - it is an InputError, and reads as one
    """A network's weights or logits are NaN or infinite: what is said of an image means nothing."""


class SelfTestError(Exception):
    """The self-test found something wrong, which the message names. The report of it has been printed."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop and has been saved
    """A run was stopped by a signal, after its state was saved.

    Attributes:
        signal_number: the signal, 2 for Ctrl-C; a shell expects the exit code 128 + it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that nothing has, with the nearest names that something has."""
    names, name = list(known), name[:80]  # from a file it may be of any length
    hint = did_you_mean(nearest_names(name, names)) or f"known: {', '.join(names[:20])}"
    return UnknownName(f"unknown {kind} '{name}'; {hint}")


def nearest_names(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> list[str]:
    """Up to three known names that are most like this one, in any case; the likest first.

    Args:
        name: as it was typed.
        known: the names that something has.
        cutoff: how like a name must be, from 0 to 1.
    """
    folded = {other.casefold(): other for other in known}
    return [folded[other] for other in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=cutoff)]


def did_you_mean(names: Sequence[str]) -> str:
    """The question whether one of these names was meant; empty without names."""
    return f"did you mean {' or '.join(names)}?" if names else ""
