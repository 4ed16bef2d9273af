"""What the zoo knows of a network. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

from densenets.models.configs.base import NetworkConfig


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


def table2(*errors: float | None, source: str = "paper, Table 2") -> PublishedErrors:
    """The errors of a row of Table 2, in the order of its columns; None where it has none."""
    columns = ("cifar10", "cifar10+", "cifar100", "cifar100+", "svhn")
    return PublishedErrors(
        top1={c: e for c, e in zip(columns, errors, strict=True) if e is not None}, source=source
    )
