"""Helpers of the name rules: depth to number of units, and rows of the paper's Table 2. Needs no PyTorch."""

from __future__ import annotations

from densenets.errors import InputError
from densenets.models.registry.entry import PublishedErrors

DEPTH_AND_WIDTH = r"(\d{1,6})(?:-(\d{1,6}))?"  # of a name: DEPTH[-WIDTH]


def units_of_depth(depth: int, per_unit: int, added: int, *, least: int = 1, of: str = "") -> int:
    """The n with depth = per_unit * n + added.

    Args:
        depth: of the whole network.
        per_unit: layers that one more n adds.
        added: layers of every network of the architecture, such as stem and classifier.
        least: the smallest n.
        of: the network's form in the error, such as "with bottleneck".

    Raises:
        InputError: no n gives this depth.
    """
    units, rest = divmod(depth - added, per_unit)
    if rest or units < least:
        lower = max(least, units) * per_unit + added
        raise InputError(
            f"depth must be {per_unit}n+{added}{of and f' {of}'}, such as {lower} or {lower + per_unit}, "
            f"got {depth}"
        )
    return units


def table2(*errors: float | None, source: str = "paper, Table 2") -> PublishedErrors:
    """Published errors from a row of Table 2, in the order of its columns; None for an empty cell."""
    columns = ("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn")
    return PublishedErrors(
        top1={c: e for c, e in zip(columns, errors, strict=True) if e is not None}, source=source
    )
