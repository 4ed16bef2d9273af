"""Checks of a saved state against the network and the optimiser that load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densenets.errors import InputError

# What each optimiser of a recipe keeps of a parameter.
_MOMENTS = {"sgd": ("momentum_buffer",), "adamw": ("step", "exp_avg", "exp_avg_sq")}


def check_state_dict(name: str, expected: Mapping[str, Tensor] | None, found: object) -> None:
    """Check that a saved state dict has the names, shapes and types of the one that it is loaded into.

    Args:
        name: what it is called.
        expected: the one that is there; None if none shall be.
        found: what the file has.

    Raises:
        InputError: it differs.
    """
    if expected is None and found is None:
        return
    if reason := _mismatch(expected or {}, found):
        raise InputError(f"the saved state is not of this run: {name}: {reason}")


def checked_moments(
    optimizer: str, parameters: Sequence[Tensor], saved: object
) -> dict[int, dict[str, Tensor]]:
    """The running moments of a saved optimiser, by the number of the parameter.

    Args:
        optimizer: its name in a recipe.
        parameters: in its order.
        saved: its state dict.

    Raises:
        InputError: they are of other parameters, or of another optimiser.
    """
    state: Any = saved.get("state") if isinstance(saved, dict) else None
    if not isinstance(state, dict):
        raise InputError("the saved state is not of this run: the optimizer's is missing")
    moments = {}
    for number, found in state.items():
        what = f"the saved state is not of this run: the optimizer's parameter {number!s:.20}"
        if type(number) is not int or not 0 <= number < len(parameters):
            raise InputError(f"{what} is none of {len(parameters)}")
        # Without momentum SGD keeps None.
        kept = {k: v for k, v in found.items() if v is not None} if isinstance(found, dict) else found
        if kept == {}:
            continue
        value = parameters[number]
        expected = {
            name: torch.empty(() if name == "step" else value.shape, dtype=value.dtype, device="meta")
            for name in _MOMENTS[optimizer]
        }
        if reason := _mismatch(expected, kept):
            raise InputError(f"{what}: {reason}")
        moments[number] = kept
    return moments


def _mismatch(expected: Mapping[str, Tensor], found: object) -> str:
    """In what a saved dict of tensors is not like the expected one; "" if in nothing."""
    if not isinstance(found, dict):
        return "tensors by name are needed"
    if differing := expected.keys() ^ found.keys():
        return f"{min(str(key) for key in differing):.200} is missing or left over"
    for name, value in expected.items():
        other = found[name]
        if not isinstance(other, Tensor) or (other.shape, other.dtype) != (value.shape, value.dtype):
            return f"{name} is not of {str(value.dtype).removeprefix('torch.')} and {tuple(value.shape)}"
    return ""
