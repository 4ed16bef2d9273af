"""Strict parsing of JSON, and checks of its values against dataclasses and other types.

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

MOST_LEVELS = 100  # of lists and objects inside each other; this program's files have up to five
_BITS = 63
_LONGEST = 200  # characters of a file's own text in an error
_AT = re.compile(r"(.*) - at `([^`]*)`", re.DOTALL)

T = TypeVar("T")


def read(target: type[T], value: object, error_start: str) -> T:
    """Convert a value of JSON to a dataclass, or to any other type.

    No type is coerced: True is no number, "3" neither, and an object has no fields but the dataclass' own.

    Args:
        target: a dataclass, TypedDict or builtin type.
        value: a value that `parse_json` returned.
        error_start: begins the error, such as "run/recipe.json is no recipe".

    Raises:
        InputError: a field is missing, unknown, of another type or out of its range.
    """
    # Imported here, so that a command that reads no file starts without it.
    import msgspec

    try:
        if unknown := next(_unknown_fields(target, value, "$"), None):
            raise InputError(f"{error_start}: {_shortened(unknown)} is unknown")
        return msgspec.convert(value, target, strict=True, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise InputError(f"{error_start}: {_reason(str(error))}") from error
    except (UnicodeEncodeError, RecursionError) as error:  # half a character, or lists without end
        raise InputError(f"{error_start}: {_shortened(str(error))}") from error


def parse_json(text: str | bytes, error_start: str, *, non_finite: bool = False) -> Any:
    """Parse a text of JSON.

    Args:
        text: bytes are UTF-8, with a byte order mark or without.
        error_start: begins the error, such as "recipe.json is not readable as JSON".
        non_finite: read NaN and Infinity, which are no JSON but which older versions wrote, as null.

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
            object_pairs_hook=_without_duplicates,
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{error_start} ({_shortened(str(error))})") from error
    if _has_levels(value, MOST_LEVELS + 1):
        raise InputError(f"{error_start} (lists or objects are more than {MOST_LEVELS} inside each other)")
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


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dict; a name that is there twice is an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{duplicate!r} stands twice in one object")
    return values


def _has_levels(value: object, levels: int) -> bool:
    """Whether lists and objects are nested at least `levels` deep."""
    items: Iterable[object]
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, list):
        items = value
    else:
        return False
    return levels == 1 or any(_has_levels(item, levels - 1) for item in items)


def _unknown_fields(target: Any, value: object, path: str) -> Iterator[str]:
    """Yield the paths of fields that a dataclass, or one inside it, does not have; msgspec ignores them."""
    if isinstance(value, Mapping) and isinstance(target, type) and dataclasses.is_dataclass(target):
        types: dict[str, Any] = _field_types(target)
        for name, inner in value.items():
            if name not in types:
                yield f"{path}.{name}"
            else:
                yield from _unknown_fields(types[name], inner, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for item_type in get_args(target)[:1]:
            for place, item in enumerate(value):
                yield from _unknown_fields(item_type, item, f"{path}[{place}]")


@functools.cache
def _field_types(target: type) -> dict[str, Any]:
    """The types of a dataclass' fields by name."""
    hints = get_type_hints(target)
    return {field.name: hints[field.name] for field in dataclasses.fields(target)}


def _from_text(target: type, value: object) -> Any:
    """A value of a type that JSON does not have: a path, from its text."""
    if target is not Path:
        raise NotImplementedError(f"{target} cannot be read from JSON")
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"Expected a path, got {_shortened(repr(value))}")
    return Path(value)


def _reason(text: str) -> str:
    """msgspec's message with the place first: `$.model.growth_rate: expected int, got str`."""
    match = _AT.fullmatch(text)
    place, message = (f"{match[2]}: ", match[1]) if match else ("", text)
    message = message.replace("`", "")
    return _shortened(f"{place}{message[:1].lower()}{message[1:]}")


def _shortened(text: str) -> str:
    """A file's own text in one line of at most `_LONGEST` characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
