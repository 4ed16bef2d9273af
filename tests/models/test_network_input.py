"""Shapes of images as texts."""

from __future__ import annotations

import pytest

from densenets.errors import InputError
from densenets.models.network_input import for_input, read_shape
from densenets.models.registry import named_config


def test_shapes_are_channels_and_sides() -> None:
    assert read_shape("3x32x32") == (3, 32, 32)
    assert read_shape("1X64x64x64") == (1, 64, 64, 64)
    for text in ("", "3", "3x", "3x0x4", "axb", "1x2x3x4x5", "3x-2"):
        with pytest.raises(InputError, match="is no shape; channels and sides are needed"):
            read_shape(text)


def test_a_network_is_built_for_its_input() -> None:
    config, sides = for_input(named_config("densenet121"), "1x64x32x16")
    assert (config.in_channels, config.spatial_dims, sides) == (1, 3, (64, 32, 16))
    config = named_config("densenet121")
    assert for_input(config, "") == (config, (224, 224))
