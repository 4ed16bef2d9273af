"""Small pictures of every format, with damage: what `read_image` makes of them is a picture or an InputError.

By hand, many more than the suite has time for, each under 4 GiB and 10 seconds:

    python tests/helpers/mutated_pictures.py 10000
"""

from __future__ import annotations

import collections
import io
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from densenets.data.images import read_image
from densenets.errors import InputError

MEMORY, SECONDS = 4 * 2**30, 10.0
_NUMBERS = [
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    b"\xff" * 8,
]


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0128] = 6, "maker", 2
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
_FRAMES = "frames"
_SAVED: list[tuple[str, str, dict[str, object]]] = [
    ("RGB", "JPEG", {"exif": _exif(), "xmp": _XMP, "icc_profile": b"profile" * 20, "comment": "c"}),
    ("RGB", "JPEG", {"progressive": True}),
    ("CMYK", "JPEG", {}),
    ("L", "JPEG", {"exif": _exif()}),
    ("RGB", "MPO", {_FRAMES: True}),
    ("RGB", "PNG", {"exif": _exif()}),
    ("P", "PNG", {"transparency": 3}),
    ("RGBA", "PNG", {}),
    ("I;16", "PNG", {}),
    ("1", "PNG", {}),
    ("RGB", "PNG", {_FRAMES: True}),
    ("RGB", "GIF", {_FRAMES: True}),
    ("P", "GIF", {"transparency": 1}),
    ("RGB", "TIFF", {"exif": _exif()}),
    ("RGB", "TIFF", {"compression": "tiff_deflate", "tiffinfo": {274: 6, 700: _XMP}}),
    ("RGB", "TIFF", {"compression": "jpeg"}),
    ("LA", "TIFF", {"compression": "tiff_lzw"}),
    ("1", "TIFF", {"compression": "group4"}),
    ("I;16B", "TIFF", {}),
    ("F", "TIFF", {}),
    ("LAB", "TIFF", {}),
    ("RGB", "TIFF", {"big_tiff": True}),
    ("RGB", "TIFF", {_FRAMES: True}),
    ("RGB", "WEBP", {"exif": _exif()}),
    ("RGBA", "WEBP", {"lossless": True, _FRAMES: True}),
    ("RGB", "AVIF", {"exif": _exif()}),
    ("RGB", "JPEG2000", {}),
    ("I;16", "JPEG2000", {"no_jp2": True}),
    *((mode, "BMP", {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *((mode, "TGA", {"compression": "tga_rle"}) for mode in ("L", "P", "RGBA")),
    *((mode, "PPM", {}) for mode in ("1", "L", "RGB", "I")),
    *((mode, "PCX", {}) for mode in ("1", "P", "RGB")),
    *(("RGB", form, {}) for form in ("DDS", "DIB", "ICO", "ICNS", "QOI", "SGI", "SPIDER")),
    *(("1", form, {}) for form in ("MSP", "XBM")),
    ("P", "BLP", {}),
]


def samples() -> dict[str, bytes]:
    """A whole file of each kind that this Pillow can write, by a name."""
    noise = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    made = {}
    for number, (mode, form, wanted) in enumerate(_SAVED):
        content, options = io.BytesIO(), dict(wanted)
        try:
            if options.pop(_FRAMES, None):
                options |= {"save_all": True, "append_images": [Image.new("RGB", (23, 17), "red")]}
            _in_mode(Image.fromarray(noise), mode).save(content, form, **options)
        except (KeyError, OSError):  # built without this format
            continue
        made[f"{number}-{form}-{mode}"] = content.getvalue()
    made["plain-PPM"] = b"P3 3 2 255 " + b"1 2 3 " * 6
    made["XPM"] = b'/* XPM */\nstatic char *x[] = {\n"2 1 2 1",\n"a c #ff0000",\n"b c #0000ff",\n"ab"\n};'
    made["PSD"] = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 2, 2, 8, 3) + b"\0" * 14 + bytes(range(12))
    made["SUN"] = struct.pack(">8I", 0x59A66A95, 4, 2, 8, 8, 1, 0, 0) + bytes(range(8))
    return made


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        return Image.fromarray(
            np.asarray(image.convert("L")).astype(">u2" if mode[-1] == "B" else "<u2") * 257
        )
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert(mode)


def mutated(content: bytes, source: random.Random) -> bytes:
    """The same file with one to eight faults: bytes replaced, cut out or repeated, or its end missing."""
    data = bytearray(content)
    for _ in range(source.choice((1, 1, 2, 4, 8))):
        if not data:
            break
        # Headers are what makes readers stumble, so half of the faults are near the beginning.
        place = source.randrange(min(len(data), source.choice((64, 64, 512, len(data)))))
        length = source.choice((1, 2, 4, 16, 64))
        fault = source.randrange(6)
        if fault == 0:
            data[place] ^= 1 << source.randrange(8)
        elif fault == 1:
            number = source.choice(_NUMBERS)
            data[place : place + len(number)] = number
        elif fault == 2:
            data[place : place + length] = source.randbytes(length)
        elif fault == 3:
            del data[place : place + length]
        elif fault == 4:
            data[place:place] = data[place : place + length] * source.choice((1, 3))
        else:
            del data[max(place, len(data) * source.randrange(4) // 4) :]
    return bytes(data)


def _read_all(pipe: Connection, seed: int) -> None:
    """Read the mutants whose numbers come in; each becomes a word that goes out."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    files, folder = list(samples().items()), Path(tempfile.mkdtemp())
    while (number := pipe.recv()) is not None:
        name, content = files[number % len(files)]
        path = folder / "picture.jpg"
        path.write_bytes(mutated(content, random.Random(f"{seed} {number}")))
        try:
            image = read_image(path, 1 + 2 * (number % 2))
            pipe.send(
                "picture" if min(image.size) > 0 and image.mode in ("L", "RGB") else f"odd {image} of {name}"
            )
        except InputError as error:
            pipe.send("refused" if "\n" not in str(error) else f"two lines of {name}: {error}")
        except BaseException as error:
            pipe.send(f"{type(error).__name__} of {name}: {error}")


def main(count: int, seed: int = 0) -> None:
    """Count what comes of `count` mutants, and name those that should not have come of one."""
    outcomes: collections.Counter[str] = collections.Counter()
    context = multiprocessing.get_context("spawn")
    ours, process = None, None
    for number in range(count):
        if process is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_read_all, args=(theirs, seed), daemon=True)
            process.start()
            theirs.close()
            ours.send(0)
            ours.recv()  # everything is imported
        ours.send(number)
        try:
            outcome = ours.recv() if ours.poll(SECONDS) else "hangs"
        except EOFError:
            process.join()
            outcome = f"dies with {process.exitcode}"
        if outcome not in ("picture", "refused"):
            sys.stdout.write(f"{number}: {outcome}\n")
            sys.stdout.flush()
        if outcome.startswith(("hangs", "dies")):
            process.kill()
            process = None
        outcomes[outcome.split(" of ")[0]] += 1
    if process is not None:
        ours.send(None)
    sys.stdout.write(f"{dict(outcomes)}\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
