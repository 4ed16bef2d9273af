"""Where a network puts a layer's new maps, behind the older ones or before them, by its concatenations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from densenets.errors import InputError
from densenets.weights.formats.file_modules import NewMaps


def maps_order(depths: Sequence[int], name: str) -> NewMaps | None:
    """Where the new maps stand in a concatenation; None where it has but one input.

    Args:
        depths: of each input in the network: new maps are computed from the older ones, and so are deeper.
        name: of the concatenation.

    Raises:
        InputError: they stand between older ones.
    """
    if len(depths) < 2:
        return None
    if all(before < behind for before, behind in pairwise(depths)):
        return "last"
    if all(before > behind for before, behind in pairwise(depths)):
        return "first"
    raise InputError(f"{name:.200} puts new maps neither behind all older ones nor before them")


def the_order(orders: Iterable[NewMaps | None]) -> NewMaps | None:
    """The one order of all concatenations of a network.

    Raises:
        InputError: there are two.
    """
    found = set(orders) - {None}
    if len(found) > 1:
        raise InputError("new maps stand behind the older ones in some layers and before them in others")
    return next(iter(found), None)
