from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_pictures import mutated, samples
from PIL import Image

from densenets.data.images import read_image
from densenets.errors import InputError

WHOLE = samples()


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What claims a million pixels is a bomb, so that the suite needs little memory and time."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)


def is_read(path: Path, content: bytes, channels: int) -> bool:
    """Whether there is a picture in a file; if not, it must be refused in one line."""
    path.write_bytes(content)
    try:
        image = read_image(path, channels)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "\n" not in refusal
        return False
    assert image.mode == ("L" if channels == 1 else "RGB")
    assert min(image.size) > 0
    return True


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_files_are_read(tmp_path: Path, name: str) -> None:
    of_floats = "SPIDER" in name or name.endswith("-F")
    assert is_read(tmp_path / "picture", WHOLE[name], 3) != of_floats


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 2**32), st.sampled_from([1, 3]))
@pytest.mark.usefixtures("small_bombs")
def test_a_damaged_picture_is_read_or_refused(tmp_path: Path, name: str, seed: int, channels: int) -> None:
    is_read(tmp_path / "picture.jpg", mutated(WHOLE[name], random.Random(seed)), channels)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
@pytest.mark.usefixtures("small_bombs")
def test_bytes_put_anywhere_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(data.draw(st.integers(1, 4))):
        place, new = data.draw(st.integers(0, len(content))), data.draw(st.binary(max_size=8))
        content[place : place + data.draw(st.integers(0, 8))] = new
    is_read(tmp_path / "picture.png", bytes(content), 3)
