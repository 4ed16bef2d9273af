"""Numbers, sizes and times as people read them in tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ((10**18, "E"), (10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_HOUR, _DAY, _YEAR = 3600, 86_400, 365 * 86_400  # seconds


def short(number: float | None) -> str:
    """A number in three digits and a unit, such as 2.85 G."""
    if number is None:
        return "-"
    for size, unit in _UNITS:
        if number >= 0.9995 * size:  # what three digits would round up to 1000 of the unit below
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def bytes_text(number: float | None) -> str:
    """A size in the unit that fits, such as 1.50 MiB."""
    if number is None:
        return "-"
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:g} B"


def images_text(split: str) -> str:
    """What images of a role are called; "all" are those of a folder that plays none."""
    return "images" if split in ("", "all") else f"{split} images"


def duration(seconds: float | None) -> str:
    """A time in the unit that fits."""
    if seconds is None:
        return "-"
    for unit, name in ((_YEAR, "years"), (_DAY, "days"), (_HOUR, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s"


def milliseconds(value: float | None) -> str:
    """A time in three digits, or in whole milliseconds above that."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def shape_text(sizes: Sequence[int]) -> str:
    """Channels and sides as a text such as 3x32x32."""
    return "x".join(str(size) for size in sizes)


def significant(value: float | None, digits: int) -> str:
    """A number in so many significant digits; - for None."""
    return "-" if value is None else f"{value:.{digits}g}"
