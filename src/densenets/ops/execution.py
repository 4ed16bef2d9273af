"""Which execution of the dense block runs, on which backend, and why. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from densenets.errors import InputError, unknown_name
from densenets.ops.backends import backend as records

Execution = Literal["auto", "reference", "recompute", "fused", "fused-lean"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


@dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        execution: the one that runs; never "auto".
        backend: the name of what a fused one computes with; None for the others.
        reason: why, as the end of a sentence.
    """

    execution: Execution
    backend: str | None
    reason: str

    def __str__(self) -> str:
        """For a summary or a log."""
        return f"{self.execution} ({self.reason})"


def check_execution(requested: Execution) -> None:
    """Check that an execution has this name.

    Raises:
        InputError: none has.
    """
    if requested not in EXECUTIONS:
        raise unknown_name("execution", requested, EXECUTIONS)


def choose_execution(
    requested: Execution, *, device: str, dtype: str, ineligibility: str | None = None
) -> Choice:
    """The execution that runs for the one that was asked for; "auto" is the fastest that can run.

    Args:
        requested: what the user asked for.
        device: type of the device of the feature maps, such as "cpu".
        dtype: their data type, such as "float32".
        ineligibility: why these modules cannot be fused; None where they can.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    check_execution(requested)
    if requested in ("reference", "recompute"):
        return Choice(requested, None, "as asked for")
    backend, label, is_fast, reason = _choose_backend(device, dtype)
    if backend is None:
        ineligibility = reason
    if requested == "auto":
        if ineligibility is not None or not is_fast:
            return Choice("reference", None, ineligibility or reason)
        return Choice("fused", backend, reason)
    if ineligibility is not None:
        raise InputError(f"execution '{requested}' cannot run: {ineligibility}; 'auto' takes what can")
    return Choice(requested, backend, f"as asked for, {reason if is_fast else f'in {label}: {reason}'}")


def _choose_backend(device: str, dtype: str) -> tuple[str | None, str, bool, str]:
    """The first backend that can run on such maps: name, label, whether it is fast, and why it is taken."""
    refusals: list[str] = []
    for backend in records.BACKENDS:
        available, reason = records.availability_for(backend, device, dtype)
        if available:
            why = f"{backend.label}, {reason}" if backend.is_fast else "; ".join(refusals)
            return backend.name, backend.label, backend.is_fast, why
        refusals.append(reason)
    dtypes = list(dict.fromkeys(dtype for backend in records.BACKENDS for dtype in backend.dtypes))
    if dtype not in dtypes:
        return None, "", False, f"the fused execution computes in {', '.join(dtypes)}, not in {dtype}"
    return None, "", False, "; ".join(refusals)


# Constant in a compiled graph, as by torch.compiler.assume_constant_result, which would load the compiler: a
# second for everybody.
_choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]
