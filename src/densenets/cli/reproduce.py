"""`densenets reproduce TARGET`: a table or figure of the paper as runs."""

from __future__ import annotations

from densenets.cli.command import Command
from densenets.files import json_text
from densenets.reproduce.options import ReproduceOptions


def reproduce(options: ReproduceOptions) -> None:
    """Plan or do the runs of a target."""
    from densenets.reproduce import reproduce as reproduction

    report = reproduction.reproduce(options)
    if options.json:
        print(json_text(report.to_dict()))


COMMAND = Command(title="reproduce", options=ReproduceOptions, call=reproduce)
