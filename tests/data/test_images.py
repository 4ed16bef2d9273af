from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin
from torchvision.transforms import v2

from densenets.data.images import central_crop, read_image, ten_crops, to_pixels
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def protocol(image_size: int, resize: int, channels: int = 3) -> Preprocessing:
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return Preprocessing(channels=channels, image_size=image_size, resize=resize, mean=zeros, std=ones)


def pixels_of(path: Path, channels: int) -> np.ndarray:
    """As read: height x width, or height x width x 3."""
    return np.asarray(read_image(path, channels))


def test_eight_bit_pixels_stay_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(GREYS).save(tmp_path / "grey.png")
    Image.fromarray(noise(5, 7)).save(tmp_path / "colour.png")
    assert np.array_equal(pixels_of(tmp_path / "grey.png", 1), GREYS)
    assert np.array_equal(pixels_of(tmp_path / "colour.png", 3), noise(5, 7))


def test_sixteen_bit_greys_are_scaled_to_eight_bits(tmp_path: Path) -> None:
    Image.fromarray(GREYS.astype(np.uint16) * 257).save(tmp_path / "deep.png")  # 0, 257 k, 65535
    assert np.array_equal(pixels_of(tmp_path / "deep.png", 1), GREYS)
    assert np.array_equal(pixels_of(tmp_path / "deep.png", 3), np.stack([GREYS] * 3, axis=-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_transparent_grey_level_becomes_black(tmp_path: Path, dtype: type) -> None:
    white = np.iinfo(dtype).max
    Image.fromarray(np.array([[0, white]], dtype)).save(tmp_path / "key.png", transparency=int(white))
    assert pixels_of(tmp_path / "key.png", 1).tolist() == [[0, 0]]


def test_palette_pictures_get_their_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "palette.png")
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    assert pixels_of(tmp_path / "palette.png", 3).tolist() == expected
    image.save(tmp_path / "keyed.png", transparency=1)
    keyed = [[[10, 20, 30], [0, 0, 0]], [[70, 80, 90], [0, 0, 0]]]
    assert pixels_of(tmp_path / "keyed.png", 3).tolist() == keyed


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_black(tmp_path: Path, mode: str) -> None:
    alpha = np.array([[0, 64, 128, 255]], np.uint8)
    levels = [np.full((1, 4), level, np.uint8) for level in ((200, 100, 50) if mode == "RGBA" else (200,))]
    Image.merge(mode, [Image.fromarray(band) for band in (*levels, alpha)]).save(tmp_path / "glass.png")
    read = pixels_of(tmp_path / "glass.png", 3).astype(float)
    expected = np.stack([band * (alpha / 255) for band in (levels * 3)[:3]], axis=-1)
    assert np.abs(read - expected).max() <= 1  # Pillow computes in integers
    assert not read[0, 0].any()
    assert read[0, 3].tolist() == [band[0, 3] for band in (levels * 3)[:3]]


def test_cmyk_inks_become_light(tmp_path: Path) -> None:
    for number, (inks, light) in enumerate(
        [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))]
    ):
        path = tmp_path / f"{number}.jpg"
        Image.new("CMYK", (8, 8), inks).save(path, quality=95)
        assert np.abs(pixels_of(path, 3).astype(int) - light).max() <= 3  # JPEG loses a little


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False], [False, False]])).save(tmp_path / "bit.png")
    assert pixels_of(tmp_path / "bit.png", 1).tolist() == [[255, 0], [0, 0]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).T),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, upright) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pixels_of(tmp_path / "turned.png", 1), upright(stored))


def tiff_tags(*entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    """EXIF of tags, each (tag, type, count, value of 4 bytes)."""
    head = b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries))
    return head + b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in entries) + after


TURNED = (0x0112, 3, 1, b"\6\0\0\0")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("exif", "is_turned"),
    [
        (
            tiff_tags(TURNED, (0x0128, 4, 1, struct.pack("<L", 70000)), after=b"\0" * 4),
            True,
        ),  # type and value
        (tiff_tags(TURNED, (0x0128, 2, 2**32 - 1, b"\xff" * 4)), True),  # a count beyond the file
        (tiff_tags(TURNED, (0x8769, 4, 1, struct.pack("<L", 8)), after=b"\0" * 4), True),  # within itself
        (tiff_tags(TURNED, (0x010F, 99, 7, b"what")), True),  # no type
        (tiff_tags((0x0112, 4, 1, b"\6\0\0\0")), True),  # a long
        (tiff_tags((0x0112, 3, 2, b"\6\0\6\0")), True),  # twice
        (tiff_tags((0x0112, 1, 1, b"\6\0\0\0")), True),  # a byte
        (tiff_tags((0x0112, 2, 2, b"6\0\0\0")), True),  # a text
        (tiff_tags((0x0112, 3, 1, b"\0\0\0\0")), False),
        (tiff_tags((0x0112, 3, 1, b"\x63\0\0\0")), False),
        (tiff_tags((0x0112, 5, 1, b"\xff" * 4)), False),
        (b"Exif\0\0b'Exif\\x00", False),
        (b"Exif\0\0", False),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_costs_the_rotation_at_most(
    tmp_path: Path, form: str, exif: bytes, is_turned: bool
) -> None:
    Image.new("RGB", (8, 4), "white").save(tmp_path / "picture", form, exif=exif)
    assert read_image(tmp_path / "picture", 3).size == ((4, 8) if is_turned else (8, 4))
    assert pixels_of(tmp_path / "picture", 1).min() == 255


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0nonsense", tiff_tags((0x0128, 3, 1, b"\2\0\0\0"))])
def test_the_orientation_of_xmp_counts_where_exif_has_none(tmp_path: Path, exif: bytes) -> None:
    Image.new("L", (8, 4)).save(tmp_path / "picture", "JPEG", exif=exif, xmp=XMP)
    assert read_image(tmp_path / "picture", 1).size == (4, 8)


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_tiff_is_turned_once_and_its_other_metadata_are_passed_by(
    tmp_path: Path, compression: str | None, orientation: int
) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x0112], tags[0x8769], tags.tagtype[0x8769] = orientation, 2**31, 4  # EXIF beyond the file
    image = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4))
    image.save(tmp_path / "turned.tif", tiffinfo=tags, compression=compression)
    upright = {1: lambda a: a, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a, -1)}[orientation]
    assert np.array_equal(pixels_of(tmp_path / "turned.tif", 1), upright(np.asarray(image)))


@pytest.mark.parametrize("name", ["film.gif", "film.png", "film.webp", "film.tif", "film.mpo", "film.avif"])
def test_of_several_frames_or_pages_the_first_is_read(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    options = {} if name.endswith("tif") else {"quality": 100}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert np.abs(pixels_of(tmp_path / name, 3).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_of_either_byte_order_are_read(tmp_path: Path, mode: str) -> None:
    deep = GREYS.astype(">u2" if mode == "I;16B" else "<u2") * 257
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    assert np.array_equal(pixels_of(tmp_path / "deep.tif", 1), GREYS)


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    lab = [[(255, 128, 128), (0, 128, 128), (138, 209, 198)]]  # white, black, and sRGB's red
    bands = np.array(lab, np.uint8)
    Image.merge("LAB", [Image.fromarray(bands[:, :, band]) for band in range(3)]).save(tmp_path / "lab.tif")
    expected = [(255, 255, 255), (0, 0, 0), (255, 0, 0)]
    assert np.abs(pixels_of(tmp_path / "lab.tif", 3)[0].astype(int) - expected).max() <= 8


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "La", "RGBa", "CMYK", "YCbCr", "HSV"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_grey_or_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, channels: int
) -> None:
    # Not every mode has a format that keeps it, so the decoder is told to give it.
    Image.fromarray(noise(4, 6)).save(tmp_path / "picture.png")
    through = {"PA": "P", "La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    given = Image.fromarray(noise(4, 6)).convert(through).convert(mode)
    monkeypatch.setattr(Image.Image, "__enter__", lambda image: given)
    assert read_image(tmp_path / "picture.png", channels).mode == ("L" if channels == 1 else "RGB")


def test_grey_is_read_as_equal_colours(tmp_path: Path) -> None:
    Image.fromarray(GREYS).save(tmp_path / "grey.png")
    assert np.array_equal(pixels_of(tmp_path / "grey.png", 3), np.stack([GREYS] * 3, axis=-1))


def test_colour_is_read_as_grey_by_its_luma(tmp_path: Path) -> None:
    primaries = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(primaries).save(tmp_path / "colour.png")
    # ITU-R 601: 0.299 red + 0.587 green + 0.114 blue.
    assert pixels_of(tmp_path / "colour.png", 1).tolist() == [[76, 150, 29, 255]]


def encoded(form: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(noise(24, 20)).save(content, form, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.jpg", encoded("JPEG")[:-300]),
        ("cut.png", encoded("PNG")[:-300]),
        ("empty.png", b""),
        ("letter.png", b"Dear reader,\nthis is a text.\n"),
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"broken image .*{name}") as caught:
        read_image(tmp_path / name, 3)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no image .*gone\.png"):
        read_image(tmp_path / "gone.png", 3)
    (tmp_path / "album.png").mkdir()
    with pytest.raises(InputError, match=r"album\.png is a folder"):
        read_image(tmp_path / "album.png", 3)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match=r"float\.tif: 32-bit floating-point"):
        read_image(tmp_path / "float.tif", 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damage_anywhere_in_a_file_gives_pixels_or_an_input_error(tmp_path: Path, form: str) -> None:
    whole = encoded(form)
    random = np.random.default_rng(0)
    damaged = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 60))]
    for place in random.integers(0, len(whole), 60):
        damaged.append(whole[:place] + random.bytes(1) + whole[place + 1 :])
    refused = 0
    for content in damaged:
        (tmp_path / "damaged").write_bytes(content)
        try:
            read_image(tmp_path / "damaged", 3)
        except InputError:
            refused += 1
    assert refused >= 30  # most of the cuts at least


@pytest.mark.parametrize(
    "error",
    [
        struct.error("argument for 's' must be a bytes object"),
        KeyError(34665),
        IndexError("list index out of range"),
        zlib.error("invalid block"),
        OverflowError("too large"),
        MemoryError(),
        RecursionError("too deep"),
        AssertionError(),
        Image.DecompressionBombError("a bomb\nof two lines"),
    ],
)
def test_whatever_a_decoder_raises_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def stumble(image: Image.Image) -> None:
        raise error

    Image.new("L", (2, 2)).save(tmp_path / "odd\nname.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", stumble)
    with pytest.raises(InputError, match=r"broken image .*odd\\nname\.png: \w+") as caught:
        read_image(tmp_path / "odd\nname.png", 3)
    assert "\n" not in str(caught.value)


def test_a_picture_that_claims_to_be_enormous_is_refused(tmp_path: Path) -> None:
    whole = encoded("BMP")
    (tmp_path / "bomb.bmp").write_bytes(whole[:18] + struct.pack("<ii", 60000, 60000) + whole[26:])
    with pytest.raises(InputError, match=r"broken image .*bomb\.bmp: .*decompression bomb"):
        read_image(tmp_path / "bomb.bmp", 3)


def test_a_picture_without_pixels_is_refused(tmp_path: Path) -> None:
    whole = encoded("BMP")
    (tmp_path / "none.bmp").write_bytes(whole[:18] + struct.pack("<ii", 0, 4) + whole[26:])
    with pytest.raises(InputError, match=r"broken image .*none\.bmp"):
        read_image(tmp_path / "none.bmp", 3)


def test_a_pipe_is_no_picture_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png is a pipe, socket or device"):
        read_image(tmp_path / "pipe.png", 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_not_called_broken(tmp_path: Path) -> None:
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(InputError, match=r"cannot read image .*secret\.png: Permission denied"):
        read_image(tmp_path / "secret.png", 3)


def test_pixels_are_uint8_channels_first() -> None:
    colour, grey = noise(3, 5), GREYS
    assert to_pixels(Image.fromarray(colour)).tolist() == colour.transpose(2, 0, 1).tolist()
    assert to_pixels(Image.fromarray(grey)).tolist() == grey[None].tolist()
    assert to_pixels(Image.fromarray(colour)).dtype == torch.uint8


SIZES = [(32, 32), (37, 37), (50, 40), (40, 50), (200, 7), (3, 90), (1, 1)]  # height, width


@pytest.mark.parametrize("size", SIZES)
def test_the_central_crop_is_torchvisions(size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*size))
    oracle = v2.Compose([v2.Resize(37), v2.CenterCrop(32), v2.PILToTensor()])
    assert torch.equal(central_crop(image, protocol(32, 37)), oracle(image))


@pytest.mark.parametrize("size", SIZES)
def test_the_ten_crops_are_torchvisions(size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*size))
    crops = v2.TenCrop(32)(v2.Resize(37)(image))
    expected = torch.stack([v2.functional.pil_to_tensor(crop) for crop in crops])
    assert torch.equal(ten_crops(image, protocol(32, 37)), expected)


LONG_SIZES = [(1, 2000), (2, 3000), (3000, 2), (7, 900), (300, 12000), (5000, 1)]  # height, width


@pytest.mark.parametrize("size", LONG_SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_crops_of_a_long_picture_are_those_of_the_whole(size: tuple[int, int], channels: int) -> None:
    image = Image.fromarray(noise(*size, channels).squeeze(2) if channels == 1 else noise(*size))
    whole = v2.functional.resize(image, [37])
    steps = protocol(32, 37, channels)
    centre = v2.functional.pil_to_tensor(v2.functional.center_crop(whole, [32, 32]))
    ten = torch.stack([v2.functional.pil_to_tensor(crop) for crop in v2.functional.ten_crop(whole, [32, 32])])
    # Pillow takes a part's place in float32: of ties between two levels some go the other way, twice.
    for crop, expected in ((central_crop(image, steps), centre), (ten_crops(image, steps), ten)):
        difference = (crop.int() - expected.int()).abs()
        assert difference.max() <= 2
        assert (difference > 0).float().mean() < 0.1


def test_a_long_picture_is_not_enlarged_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, size, *a, **k: sizes.append(size) or resize(image, size, *a, **k)
    )
    image = Image.fromarray(noise(2, 100_000))
    assert central_crop(image, protocol(224, 256)).shape == (3, 224, 224)
    assert ten_crops(image, protocol(224, 256)).shape == (10, 3, 224, 224)
    assert set(sizes) == {(224, 224)}


def test_the_ten_crops_are_corners_centre_and_their_mirror_images() -> None:
    pixels = torch.from_numpy(noise(8, 8)).permute(2, 0, 1)
    crops = ten_crops(Image.fromarray(noise(8, 8)), protocol(6, 8))
    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    views = (pixels, pixels.flip(-1))
    expected = [view[:, y : y + 6, x : x + 6] for view in views for y, x in corners]
    assert torch.equal(crops, torch.stack(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_the_right_size_is_not_changed(channels: int) -> None:
    image = Image.fromarray(noise(9, 9, channels).squeeze())
    assert torch.equal(central_crop(image, protocol(9, 9, channels)), to_pixels(image))
