"""What a verb does, and what options it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Command(Generic[Options]):
    """What a verb does, and what options it takes.

    Attributes:
        title: as help and errors name it, such as "train digits".
        options: dataclass of the options; fields without a default are positional.
        call: does it.
        default: an instance whose values are the defaults; None for those of `options`.
        flat: options of nested dataclasses have no prefix, unlike those of `train`.
    """

    title: str
    options: type[Options]
    call: Callable[[Options], None]
    default: Options | None = None
    flat: bool = False

    @property
    def markers(self) -> tuple[Any, ...]:
        """How tyro reads the dataclass."""
        import tyro

        return (tyro.conf.PositionalRequiredArgs, *((tyro.conf.OmitArgPrefixes,) if self.flat else ()))
