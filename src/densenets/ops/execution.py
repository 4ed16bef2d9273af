"""Which execution of the dense block runs. Needs no PyTorch."""

from __future__ import annotations

from typing import Literal, get_args

from densenets.errors import unknown_name

Execution = Literal["auto", "reference", "recompute"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


def choose_execution(requested: Execution) -> Literal["reference", "recompute"]:
    """The execution that runs for the one that was asked for; "auto" is the fastest there is.

    Raises:
        InputError: no execution has this name.
    """
    if requested not in EXECUTIONS:
        raise unknown_name("execution", requested, EXECUTIONS)
    return "recompute" if requested == "recompute" else "reference"
