"""What the zoo knows of a network. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig


@dataclass(frozen=True, kw_only=True)
class PublishedErrors:
    """Test errors in percent that a network's authors report; a name with no figure is left out.

    Attributes:
        top1: data set -> top-1 error. "+" is standard augmentation (mirror and crop), without it none.
        source: where the figures stand.
    """

    top1: dict[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """A network that the paper compares, or whose authors report what came out.

    Attributes:
        config: what it is.
        published: the errors that were reported.
        printed_parameters: as the paper prints them, in millions; 0 where it prints none.
    """

    config: NetworkConfig
    published: PublishedErrors
    printed_parameters: float = 0.0


def layers_of(depth: int, per_layer: int, added: int, *, least: int = 1, of: str = "it") -> int:
    """The n of a depth that is per_layer * n + added.

    Args:
        depth: of the whole network.
        per_layer: how much deeper one more n makes it.
        added: its layers that are always there.
        least: the smallest n.
        of: what the network is, for the error.

    Raises:
        InputError: no n gives this depth.
    """
    layers, rest = divmod(depth - added, per_layer)
    if rest or layers < least:
        lower = max(least, layers) * per_layer + added
        raise InputError(
            f"depth {depth} cannot be: {of} is {per_layer}n+{added}, such as {lower} or {lower + per_layer}"
        )
    return layers


def table2(*errors: float | None, source: str = "paper, Table 2") -> PublishedErrors:
    """The errors of a row of Table 2, in the order of its columns; None where it has none."""
    columns = ("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn")
    return PublishedErrors(
        top1={c: e for c, e in zip(columns, errors, strict=True) if e is not None}, source=source
    )
