"""Choice of the execution of a dense block, and of its backend, with the reason. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from densenets.errors import InputError, unknown_name
from densenets.ops.backends import backend as backend_module

Execution = Literal["auto", "reference", "recompute", "fused", "fused-lean"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)


@dataclass(frozen=True)
class Choice:
    """The execution and the backend that run, and why.

    Attributes:
        execution: never "auto".
        backend: name of the backend of a fused execution; None for the others.
        reason: why they run, as the end of a sentence.
    """

    execution: Execution
    backend: str | None
    reason: str

    def __str__(self) -> str:
        """The execution and the reason, for a summary or a log."""
        return f"{self.execution} ({self.reason})"


def check_execution(requested: Execution) -> None:
    """Check that an execution of this name exists.

    Raises:
        InputError: it does not.
    """
    if requested not in EXECUTIONS:
        raise unknown_name("execution", requested, EXECUTIONS)


def choose_execution(
    requested: Execution, *, device: str, dtype: str, ineligibility: str | None = None
) -> Choice:
    """Choose the execution that runs for a requested one; "auto" takes the fastest that can run.

    Args:
        requested: the user's execution.
        device: device type of the feature maps, such as "cpu".
        dtype: data type of the feature maps, such as "float32".
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
    backends = backend_module.BACKENDS
    refusals: list[str] = []
    for backend in backends:
        available, reason = backend_module.availability_for(backend, device, dtype)
        if available:
            why = f"{backend.label}, {reason}" if backend.is_fast else "; ".join(refusals)
            return backend.name, backend.label, backend.is_fast, why
        refusals.append(reason)
    dtypes = list(dict.fromkeys(dtype for backend in backends for dtype in backend.dtypes))
    if dtype not in dtypes:
        return None, "", False, f"the fused execution computes in {', '.join(dtypes)}, not in {dtype}"
    return None, "", False, "; ".join(refusals)


# Constant in a compiled graph, as by torch.compiler.assume_constant_result, which would load the compiler: a
# second for everybody.
_choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]
