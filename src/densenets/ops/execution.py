"""Which execution of the dense block runs, and why. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from densenets.errors import InputError, unknown_name

Execution = Literal["auto", "reference", "recompute", "fused", "fused-lean"]
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
_FUSED_TYPES = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class NativeState:
    """Whether the native kernels can run here.

    Attributes:
        instruction_set: the one that they would use; None where they are missing.
        missing: why they are.
    """

    instruction_set: str | None
    missing: str = ""


@dataclass(frozen=True)
class Choice:
    """What runs.

    Attributes:
        execution: the one that runs; never "auto".
        native: whether a fused one runs in the native kernels, else in PyTorch's operations.
        reason: why, as the end of a sentence.
    """

    execution: Execution
    native: bool
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
    requested: Execution,
    *,
    device: str,
    dtype: str,
    native: NativeState,
    obstacle: str | None = None,
) -> Choice:
    """The execution that runs for the one that was asked for; "auto" is the fastest that can run.

    Args:
        requested: what the user asked for.
        device: type of the device of the feature maps, such as "cpu".
        dtype: their data type, such as "float32".
        native: whether the native kernels can run.
        obstacle: why these modules cannot be fused; None where they can.

    Raises:
        InputError: no execution has this name, or the fused one was asked for and cannot run.
    """
    check_execution(requested)
    if requested in ("reference", "recompute"):
        return Choice(requested, False, "as asked for")
    if dtype not in _FUSED_TYPES:
        obstacle = f"the fused execution computes in {', '.join(_FUSED_TYPES)}, not in {dtype}"
    missing = native.missing if device == "cpu" else f"the native kernels are for the CPU, not {device}"
    with_kernels = f"native kernels, {native.instruction_set}"
    can_run = device == "cpu" and native.instruction_set is not None
    if requested != "auto":
        if obstacle is not None:
            raise InputError(f"execution '{requested}' cannot run: {obstacle}; 'auto' takes what can")
        how = with_kernels if can_run else f"in PyTorch's operations: {missing}"
        return Choice(requested, can_run, f"as asked for, {how}")
    if obstacle is not None or not can_run:
        return Choice("reference", False, obstacle or missing)
    return Choice("fused", True, with_kernels)
