"""Decoding of picture files, and their central crop and ten crops as uint8 pixels."""

from __future__ import annotations

import re
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from densenets.data.picture_formats import picture_formats
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError
from densenets.names import one_line, printable

_SIXTEEN_BIT = 257  # 65535 / 255: 16-bit pixels to 8-bit ones
_LONG = 32  # a resized picture is long if its longer side is so many times the shorter one
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def read_image(path: Path, channels: int) -> Image.Image:
    """Decode a picture, upright, as 8-bit grey (channels 1) or RGB (channels 3).

    The content tells the format, not the name. Of animations and of several pages the first is read. 16-bit
    greyscale is scaled to 8 bits; transparency is laid on black; EXIF rotation is applied where it can be
    read, and damaged metadata are ignored.

    Raises:
        InputError: there is no such file, or it is not an image that can be decoded.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "folder" if path.is_dir() else "pipe, socket or device"
            raise InputError(f"{printable(str(path))} is a {kind}, not an image")
        return _decoded(path, channels)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no image {printable(str(path))}") from error
    except UnidentifiedImageError as error:
        why = "it is empty" if not path.stat().st_size else "its content is of no format that is read"
        raise InputError(f"broken image {printable(str(path))}: {why}") from error
    # Decoders raise anything over damaged content: struct.error, KeyError, zlib.error, OverflowError,
    # MemoryError, ... Only the file can be at fault.
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read image {printable(str(path))}: {error.strerror}") from error
        reason = one_line(str(error).partition("\n")[0]) or type(error).__name__
        raise InputError(f"broken image {printable(str(path))}: {reason}") from error


def _decoded(path: Path, channels: int) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata and of very large pictures; the pixels decide here.
        warnings.simplefilter("ignore")
        # Not by its name: Pillow would map the file into memory, in which it turns TIFFs wrongly, and which
        # ends the process if the file is cut meanwhile.
        with path.open("rb") as stream, Image.open(stream, formats=picture_formats()) as file:
            is_tiff = isinstance(file, TiffImagePlugin.TiffImageFile)
            orientation = _orientation(file) if is_tiff else 0  # it closes the file when it is loaded
            if is_tiff:
                # Pillow would turn it here and read all of its metadata, and fail where they are damaged.
                file.load_end = lambda: None  # type: ignore[method-assign]
            file.load()
            return _converted(file, orientation or _orientation(file), channels)


def convert_image(image: Image.Image, channels: int) -> Image.Image:
    """An image that Pillow has opened or made, as `read_image` gives its file: upright, 8-bit grey or RGB.

    Raises:
        InputError: it cannot be decoded, has no pixels, or has pixels of no known range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()  # which turns a TIFF upright, and takes its orientation away
            return _converted(image, _orientation(image), channels)
    except Exception as error:  # as of files
        raise InputError(f"broken image: {one_line(str(error)) or type(error).__name__}") from error


def _converted(image: Image.Image, orientation: int, channels: int) -> Image.Image:
    if (turn := _UPRIGHT.get(orientation)) is not None:
        image = image.transpose(turn)
    if not min(image.size):
        raise ValueError("it has no pixels")
    return _eight_bit(image).convert("L" if channels == 1 else "RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, or else XMP's, 1 ... 8; another number where none can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        # A tag of several values, or of bytes.
        orientation = int(value[0] if isinstance(value, tuple | bytes | str) else value or 0)
    except Exception:  # as with the pixels: damaged metadata let Pillow stumble over anything
        orientation = 0
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp")
    if orientation or not isinstance(xmp, str | bytes):
        return orientation or 1
    match = _XMP_ORIENTATION.search(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp)
    return int(match[1]) if match else 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """A picture of any of Pillow's modes as one of 8 bits without transparency."""
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
        if isinstance(level := image.info.get("transparency"), int):  # a level of grey, not a mask
            pixels[pixels == level] = 0
        return Image.fromarray((pixels // _SIXTEEN_BIT).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("32-bit floating-point pixels have no known range; save it as 8 or 16 bits")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # it is None of a picture that is changed in place
        return converted
    if image.mode in ("RGBa", "La"):  # transparency that the colours are multiplied by already
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image


def to_pixels(image: Image.Image) -> Tensor:
    """A picture -> uint8, channels x height x width."""
    pixels = np.asarray(image, dtype=np.uint8)
    # By NumPy: PyTorch would copy with a team of threads for each thread that decodes.
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    return torch.from_numpy(planes.copy(order="C"))


def read_pixels(path: Path, preprocessing: Preprocessing) -> Tensor:
    """The central crop of a picture file, as a network's preprocessing makes it: uint8, C x H x W.

    Raises:
        InputError: there is no such file, or it is not an image that can be decoded.
    """
    return central_crop(read_image(path, preprocessing.channels), preprocessing)


def central_crop(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Central crop of a resized picture, as in evaluation -> uint8, channels x size x size."""
    resized = _Resized(image, preprocessing)
    return to_pixels(resized.crop(*resized.centre))


def ten_crops(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Four corners, the centre, and their mirror images -> uint8, 10 x channels x size x size."""
    resized = _Resized(image, preprocessing)
    right, bottom = resized.furthest
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    centre, top = resized.centre
    upright = [to_pixels(resized.crop(*corner)) for corner in (*corners, (centre, top))]
    # What is at the left of the mirror image comes from the right; its centre may lie a pixel aside.
    sources = [(right - left, top) for left, top in (*corners, (centre, top))]
    mirrored = [to_pixels(resized.crop(*source)).flip(-1) for source in sources]
    return torch.stack(upright + mirrored)


class _Resized:
    """A picture resized to `preprocessing.resize` pixels of its shorter side, of which crops are taken.

    A very long one is resized crop by crop: as a whole it may take a thousand times its own memory.
    """

    def __init__(self, image: Image.Image, preprocessing: Preprocessing) -> None:
        short, long = min(image.size), max(image.size)
        self._image, self._side = image, preprocessing.image_size
        enlarged = preprocessing.resize, int(preprocessing.resize * long / short)  # as torchvision rounds
        self._size = enlarged if image.width <= image.height else enlarged[::-1]
        is_long = enlarged[1] > max(long, _LONG * preprocessing.resize)
        self._whole = None if is_long else _resize(image, self._size)

    @property
    def furthest(self) -> tuple[int, int]:
        """Left and top of the crop at the lower right."""
        width, height = self._size
        return width - self._side, height - self._side

    @property
    def centre(self) -> tuple[int, int]:
        """Left and top of the crop in the middle."""
        left, top = (round(gap / 2) for gap in self.furthest)
        return left, top

    def crop(self, left: int, top: int) -> Image.Image:
        """The square crop at a place of the resized picture."""
        if self._whole is not None:
            return self._whole.crop((left, top, left + self._side, top + self._side))
        spans = [
            _source_span(start, self._side, resized, own)
            for start, resized, own in zip((left, top), self._size, self._image.size, strict=True)
        ]
        (left, right, x, x_end), (top, bottom, y, y_end) = spans
        part = self._image.crop((left, top, right, bottom))
        return part.resize((self._side, self._side), Image.Resampling.BILINEAR, box=(x, y, x_end, y_end))


def _source_span(start: int, side: int, resized: int, own: int) -> tuple[int, int, float, float]:
    """The pixels of the original picture, along one side, that a crop of the resized picture is made of.

    Returns:
        First pixel of the part to cut out and the one behind its last, with all that the filter reads; and
        where in that part the crop begins and ends.
    """
    scale = own / resized
    margin = 2 + int(scale)  # the filter reads a pixel to both sides, or when it shrinks that many
    begin, end = start * scale, (start + side) * scale
    first, behind = max(0, int(begin) - margin), min(own, int(end) + 1 + margin)
    return first, behind, begin - first, min(end - first, behind - first)


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
