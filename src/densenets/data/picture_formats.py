"""Picture formats that are read: all raster formats that Pillow decodes without another program."""

from __future__ import annotations

import functools
import inspect

from PIL import Image, ImageFile

# What Pillow would open, and no picture of strangers should be: EPS starts Ghostscript; IPTC opens what it
# holds as any format, EPS too; FITS unpacks gzip whatever its size; of MPEG only the header is known.
_NOT_READ = frozenset({"EPS", "IPTC", "FITS", "MPEG"})


@functools.cache
def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, in the order in which they are tried."""
    Image.preinit()  # the usual formats come first
    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_READ and not _is_stub(name))


@functools.cache
def picture_suffixes() -> frozenset[str]:
    """File suffixes of those formats, in small letters, such as ".png"."""
    formats = {*picture_formats(), "MPO"}  # of several JPEGs in one file, opened as JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def _is_stub(name: str) -> bool:
    """Whether Pillow recognises the format but needs another program to decode it."""
    reader, _ = Image.OPEN[name]
    return inspect.isclass(reader) and issubclass(reader, ImageFile.StubImageFile)
