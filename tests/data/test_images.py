from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
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


def test_of_a_gif_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert pixels_of(tmp_path / "film.gif", 3).tolist() == [[[255, 0, 0]] * 3] * 2


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
