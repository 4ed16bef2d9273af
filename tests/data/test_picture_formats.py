from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from densenets.data.folder_listing import find_pictures
from densenets.data.images import read_image
from densenets.data.picture_formats import picture_formats, picture_suffixes
from densenets.errors import InputError

NO_PICTURES = [
    ".eps",
    ".ps",
    ".pdf",
    ".wmf",
    ".emf",
    ".mpg",
    ".mpeg",
    ".h5",
    ".grib",
    ".bufr",
    ".iim",
    ".svg",
]
WRITTEN = sorted(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in Image.SAVE
    and suffix not in NO_PICTURES
    and name not in ("PALM", "HDF5")  # Pillow cannot read them back
)


@pytest.mark.filterwarnings("ignore:.* image format is deprecated")
@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_pillow_writes_is_found_and_read(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = tmp_path / f"picture{suffix}"
    for mode in ("RGB", "L", "P", "1", "RGBA"):
        try:
            Image.fromarray(pixels).convert(mode).save(path)
            break
        except (OSError, ValueError, KeyError):  # the format has no such pixels
            continue
    else:
        pytest.skip(f"this Pillow cannot write {suffix}")
    assert find_pictures(tmp_path).pictures == [path]
    assert read_image(path, 3).mode == "RGB"


def test_formats_that_are_no_pictures_or_start_programs_are_left_out() -> None:
    assert not picture_suffixes() & set(NO_PICTURES)
    assert not set(picture_formats()) & {"EPS", "PDF", "WMF", "MPEG", "GRIB", "HDF5", "BUFR", "IPTC", "FITS"}
    assert {".jpg", ".jfif", ".jpe", ".jp2", ".tga", ".avif", ".apng", ".mpo", ".pnm"} <= picture_suffixes()


def test_postscript_starts_no_program_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: object, **options: object) -> None:
        pytest.fail("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.eps")
    (tmp_path / "picture.eps").rename(tmp_path / "picture.jpg")
    with pytest.raises(InputError, match=r"broken image .*picture\.jpg"):
        read_image(tmp_path / "picture.jpg", 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA"])
def test_the_content_tells_the_format_not_the_name(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (6, 4), "white").save(tmp_path / "wrong.bmp", form)
    assert np.asarray(read_image(tmp_path / "wrong.bmp", 1)).tolist() == [[255] * 6] * 4
