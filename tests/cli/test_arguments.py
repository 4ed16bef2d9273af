"""Texts of the command line that mean numbers."""

from __future__ import annotations

import pytest

from densenets.cli.arguments import read_bytes, read_shape
from densenets.errors import InputError


def test_shapes_are_channels_and_sides() -> None:
    assert read_shape("3x32x32") == [3, 32, 32]
    assert read_shape("1X64x64x64") == [1, 64, 64, 64]
    for text in ("", "3", "3x", "3x0x4", "axb", "1x2x3x4x5", "3x-2"):
        with pytest.raises(InputError, match="is no shape; channels and sides are needed"):
            read_shape(text)


def test_sizes_have_units() -> None:
    assert read_bytes("8GiB") == 8 * 2**30
    assert read_bytes("11 GB") == 11 * 10**9
    assert read_bytes("1.5mib") == 3 * 2**19
    assert read_bytes("12B") == 12
    assert read_bytes("") == 0
    for text in ("8", "GiB", "-1GiB", "8 GiBit", "8TiB"):
        with pytest.raises(InputError, match=f"--memory {text} is no size"):
            read_bytes(text)
