"""Parameters of which some are enough where time is short; the others are marked slow, and run in CI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def every(
    names: str,
    values: Iterable[Any],
    *,
    quick: Callable[..., bool],
    ids: Callable[[Any], str | None] | Sequence[str] | None = None,
) -> pytest.MarkDecorator:
    """`pytest.mark.parametrize`, but what `quick` says no to, called with a test's values, is slow.

    Args:
        names: of the parameters, with commas between them.
        values: of each test; tuples where there are several names.
        quick: whether these values run among the quick tests.
        ids: as parametrize's.
    """
    several = "," in names
    parameters = []
    for value in values:
        own = tuple(value) if several else (value,)
        parameters.append(pytest.param(*own, marks=() if quick(*own) else pytest.mark.slow))
    return pytest.mark.parametrize(names, parameters, ids=ids)
