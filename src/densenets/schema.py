"""What is read from files, checked against the types that it shall have before anything is done with it.

JSON is read strictly: no NaN, no Infinity, no number beyond 64 bits, no name twice, no nesting without end.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from densenets.errors import InputError

MOST_LEVELS = 100  # of lists and objects inside each other; ours have up to five
_BITS = 63
_LONGEST = 200  # characters of a file's own text that an error tells
_AT = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)

T = TypeVar("T")


def read(kind: type[T], value: object, what: str) -> T:
    """A value of JSON as a frozen dataclass, or as any other type.

    No type is changed for another: True is no number, "3" neither, and an object has no fields but the
    dataclass' own.

    Args:
        kind: a dataclass, TypedDict or builtin type.
        value: what `parse_json` gives.
        what: begins the error, such as "run/recipe.json is no recipe".

    Raises:
        InputError: a field is missing, unknown, of another type or out of its range.
    """
    # Imported here, so that a command that reads no file starts without it.
    import msgspec

    try:
        if unknown := next(_unknown_fields(kind, value, "$"), None):
            raise InputError(f"{what}: {_shown(unknown)} is unknown")
        return msgspec.convert(value, kind, strict=True, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise InputError(f"{what}: {_reason(str(error))}") from error
    except (UnicodeEncodeError, RecursionError) as error:  # half a character, or lists without end
        raise InputError(f"{what}: {_shown(str(error))}") from error


def fits(kind: type[T], value: object) -> bool:
    """Whether `read` takes a value."""
    try:
        read(kind, value, "")
    except InputError:
        return False
    return True


def parse_json(text: str | bytes, what: str, *, non_finite: bool = False) -> Any:
    """What a text of JSON says.

    Args:
        text: bytes are UTF-8, with a byte order mark or without.
        what: begins the error, such as "recipe.json is not readable as JSON".
        non_finite: take NaN and Infinity, which are no JSON but which older versions wrote, for null.

    Raises:
        InputError: it is not JSON.
    """
    number = functools.partial(_finite, non_finite=non_finite)
    try:
        value = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text,
            parse_constant=number,
            parse_float=number,
            parse_int=_whole,
            object_pairs_hook=_without_twins,
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} ({_shown(str(error))})") from error
    if _has_levels(value, MOST_LEVELS + 1):
        raise InputError(f"{what} (lists or objects are more than {MOST_LEVELS} inside each other)")
    return value


def _finite(text: str, *, non_finite: bool) -> float | None:
    value = float(text)
    if math.isfinite(value):
        return value
    if non_finite:
        return None
    raise ValueError(f"{text[:_LONGEST]} is no number that JSON holds")


def _whole(text: str) -> int:
    # Longer ones cannot be computed with as floats, and from some thousand digits on not be read at all.
    if len(text) > _BITS or (value := int(text)).bit_length() > _BITS:
        raise ValueError(f"a number of {len(text)} digits is beyond 64 bits")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{twin!r} stands twice in one object")
    return found


def _has_levels(value: object, levels: int) -> bool:
    """Whether so many lists and objects are inside each other."""
    items: Iterable[object]
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, list):
        items = value
    else:
        return False
    return levels == 1 or any(_has_levels(item, levels - 1) for item in items)


def _unknown_fields(kind: Any, value: object, path: str) -> Iterator[str]:
    """The paths of fields that a dataclass, or one inside it, does not have; msgspec passes them by."""
    if isinstance(value, Mapping) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        kinds: dict[str, Any] = _field_kinds(kind)
        for name, inner in value.items():
            if name not in kinds:
                yield f"{path}.{name}"
            else:
                yield from _unknown_fields(kinds[name], inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for inner_kind in get_args(kind)[:1]:
            for place, item in enumerate(value):
                yield from _unknown_fields(inner_kind, item, f"{path}[{place}]")


@functools.cache
def _field_kinds(kind: type) -> dict[str, Any]:
    """The types of a dataclass' fields."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _from_text(kind: type, value: object) -> Any:
    """A value of a type that JSON does not know."""
    if kind is not Path:
        raise NotImplementedError(f"{kind} cannot be read from JSON")
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"Expected a path, got {_shown(repr(value))}")
    return Path(value)


def _reason(text: str) -> str:
    """msgspec's message with the place first: `$.model.growth_rate: expected int, got str`."""
    match = _AT.fullmatch(text)
    place, message = (f"{match[2]}: ", match[1]) if match else ("", text)
    message = message.replace("`", "")
    return _shown(f"{place}{message[:1].lower()}{message[1:]}")


def _shown(text: str) -> str:
    """A file's own text in one line and not without end."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
