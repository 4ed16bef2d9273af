"""Reading pictures: any file that Pillow decodes -> uint8 pixels, the same everywhere it is read."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)

_SIXTEEN_BIT = 257  # 65535 / 255: 16-bit pixels to 8-bit ones


def read_image(path: Path, channels: int) -> Image.Image:
    """Decode a picture whole, upright, as 8-bit grey (channels 1) or RGB (channels 3).

    16-bit greyscale is scaled to 8 bits; transparency is laid on black; EXIF rotation is applied.

    Raises:
        InputError: there is no such file, or it is not an image that can be decoded.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged metadata and of very large pictures; the pixels decide here.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                file.load()
                image: Image.Image = ImageOps.exif_transpose(file)
                return _eight_bit(image).convert("L" if channels == 1 else "RGB")
    except FileNotFoundError as error:
        raise InputError(f"there is no image {path}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not an image") from error
    # Pillow's decoders raise whatever a broken file makes them stumble over.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"broken image {path}: {reason}") from error


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
        if "transparency" in image.info:  # a level of grey, not a mask
            pixels[pixels == image.info["transparency"]] = 0
        return Image.fromarray((pixels // _SIXTEEN_BIT).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("32-bit floating-point pixels have no known range; save it as 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image


def to_pixels(image: Image.Image) -> Tensor:
    """A picture -> uint8, channels x height x width."""
    pixels = np.array(image, dtype=np.uint8)
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()


def central_crop(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """The one crop of evaluation -> uint8, channels x size x size."""
    resized = _resize(image, preprocessing)
    return to_pixels(transforms.center_crop(resized, [preprocessing.image_size] * 2))


def ten_crops(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Four corners, the centre, and their mirror images -> uint8, 10 x channels x size x size."""
    resized = _resize(image, preprocessing)
    crops = transforms.ten_crop(resized, [preprocessing.image_size] * 2)
    return torch.stack([to_pixels(crop) for crop in crops])


def _resize(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    if min(image.size) == preprocessing.resize:
        return image
    resized: Image.Image = transforms.resize(image, [preprocessing.resize], antialias=True)
    return resized
