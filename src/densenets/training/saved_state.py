"""Checks of a saved state against the network and the optimiser that load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densenets.errors import InputError

# Names of an optimiser's state of each parameter.
_MOMENTS = {"sgd": ("momentum_buffer",), "adamw": ("step", "exp_avg", "exp_avg_sq")}


def check_state_dict(name: str, expected: Mapping[str, Tensor] | None, saved: object) -> None:
    """Check that a saved state dict has the names, shapes and types of the one that it is loaded into.

    Args:
        name: of the state dict, for the error.
        expected: the state dict that it is loaded into; None if there is none.
        saved: the file's.

    Raises:
        InputError: they differ.
    """
    if expected is None and saved is None:
        return
    if reason := _mismatch(expected or {}, saved):
        raise InputError(f"the saved state is not of this run: {name}: {reason}")


def checked_moments(
    optimizer: str, parameters: Sequence[Tensor], saved: object
) -> dict[int, dict[str, Tensor]]:
    """The moments in a saved optimiser's state dict, checked, by the number of the parameter.

    Args:
        optimizer: name of the optimiser in a recipe.
        parameters: in the optimiser's order.
        saved: the optimiser's state dict.

    Raises:
        InputError: they are of other parameters, or of another optimiser.
    """
    state: Any = saved.get("state") if isinstance(saved, dict) else None
    if not isinstance(state, dict):
        raise InputError("the saved state is not of this run: the optimizer's is missing")
    moments = {}
    for number, entry in state.items():
        error_start = f"the saved state is not of this run: the optimizer's parameter {number!s:.20}"
        if type(number) is not int or not 0 <= number < len(parameters):
            raise InputError(f"{error_start} is none of {len(parameters)}")
        # Without momentum SGD's entry is None.
        tensors = {k: v for k, v in entry.items() if v is not None} if isinstance(entry, dict) else entry
        if tensors == {}:
            continue
        value = parameters[number]
        expected = {
            name: torch.empty(() if name == "step" else value.shape, dtype=value.dtype, device="meta")
            for name in _MOMENTS[optimizer]
        }
        if reason := _mismatch(expected, tensors):
            raise InputError(f"{error_start}: {reason}")
        moments[number] = tensors
    return moments


def _mismatch(expected: Mapping[str, Tensor], saved: object) -> str:
    """How a saved dict of tensors differs from the expected one; "" if it does not."""
    if not isinstance(saved, dict):
        return "tensors by name are needed"
    if differing := expected.keys() ^ saved.keys():
        return f"{min(str(key) for key in differing):.200} is missing or left over"
    for name, value in expected.items():
        other = saved[name]
        if not isinstance(other, Tensor) or (other.shape, other.dtype) != (value.shape, value.dtype):
            return f"{name} is not of {str(value.dtype).removeprefix('torch.')} and {tuple(value.shape)}"
    return ""
