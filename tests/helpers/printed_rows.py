"""What a command printed, as rows."""

from __future__ import annotations


def printed_rows(printed: str) -> dict[str, list[str]]:
    """The words of each line behind its first."""
    return {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}
