"""Comparison of an exported network with the checkpoint's own, in the engine, on real images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from densenets.checkpoint import Checkpoint, shape_text
from densenets.data.augmentation import normalize
from densenets.data.folder_listing import find_pictures
from densenets.data.image_sets import MemoryImages
from densenets.data.images import read_pixels
from densenets.data.preprocessing import Preprocessing
from densenets.engines.description import Dynamic, Verification
from densenets.errors import InputError
from densenets.evaluation import images_of
from densenets.evaluation_options import EvaluationOptions

BOUND = 1e-4  # the largest difference of two logits in float32, as a share of their spread
IMAGES = 32  # that are compared
_CHUNK = 8  # images of a forward pass of the checkpoint's own network, to bound memory


@dataclass(frozen=True)
class SampleImages:
    """Real images of a network's input size.

    Attributes:
        pixels: uint8, N x C x H x W.
        source: where they lie, for people.
    """

    pixels: Tensor
    source: str


def sample_images(checkpoint: Checkpoint, folder: Path | None, count: int = IMAGES) -> SampleImages:
    """Images to try a network on, evenly chosen: of a folder, or else of the data that its run reported.

    Args:
        checkpoint: the network.
        folder: of pictures, at any depth; None for the run's own data.
        count: the most that are taken.

    Raises:
        InputError: there are none, or one cannot be decoded.
    """
    preprocessing = checkpoint.preprocessing
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; name one of pictures")
        paths: Sequence[Path] = find_pictures(folder).pictures
        if not paths:
            raise InputError(f"{folder} holds no images")
        return SampleImages(
            _decoded([paths[i] for i in _evenly(len(paths), count)], preprocessing), str(folder)
        )
    advice = (
        "an exported network is compared with the checkpoint's on real images; name some with --images FOLDER"
    )
    if not checkpoint.details.get("data"):
        raise InputError(f"the checkpoint does not say what it was trained on; {advice}")
    try:
        found = images_of(checkpoint, EvaluationOptions())
    except InputError as error:
        raise InputError(f"the images of the checkpoint's run are not there ({error}); {advice}") from error
    chosen = torch.tensor(_evenly(len(found.images), count))
    images = found.images.subset(chosen)
    pixels = images.pixels if isinstance(images, MemoryImages) else _decoded(images.paths, preprocessing)
    return SampleImages(pixels, found.source)


@torch.no_grad()
def compare(
    reference: nn.Module,
    exported: nn.Module,
    images: SampleImages,
    preprocessing: Preprocessing,
    dynamic: Sequence[Dynamic],
) -> Verification:
    """Compare the logits of two networks, where they may vary also of another batch and another image size.

    Args:
        reference: the checkpoint's network.
        exported: the one in the engine.
        images: real ones.
        preprocessing: of both.
        dynamic: sizes of the input that may vary.

    Raises:
        InputError: a logit is not finite.
    """
    difference = spread = 0.0
    agreement = 100.0
    for pixels in _variants(images.pixels, dynamic):
        normalised = normalize(pixels, preprocessing)
        expected = torch.cat([reference(part) for part in normalised.split(_CHUNK)])
        logits = exported(normalised)
        if logits.shape != expected.shape or not (logits.isfinite().all() and expected.isfinite().all()):
            raise InputError(
                f"nothing was kept: of images {shape_text(pixels.shape)} the exported network computes "
                f"{shape_text(logits.shape)} logits, PyTorch's {shape_text(expected.shape)}, or some are NaN "
                "or infinite"
            )
        difference = max(difference, float((logits - expected).abs().max()))
        spread = max(spread, float(expected.max() - expected.min()))
        same = (logits.argmax(dim=1) == expected.argmax(dim=1)).double().mean()
        agreement = min(agreement, 100 * float(same))
    return Verification(
        images=len(images.pixels),
        source=images.source,
        difference=difference,
        spread=spread,
        agreement=agreement,
    )


def check_bound(verification: Verification) -> None:
    """Check that an exported network computes what the checkpoint's does, to rounding.

    Raises:
        InputError: it does not.
    """
    if verification.relative > BOUND:
        raise InputError(
            f"nothing was kept: the exported network's logits differ from PyTorch's by "
            f"{verification.difference:.2g}, {verification.relative:.2g} of their spread on "
            f"{verification.images} images, and at most {BOUND:g} is rounding; the likeliest class is the "
            f"same on {verification.agreement:.1f}%"
        )


def _variants(pixels: Tensor, dynamic: Sequence[Dynamic]) -> Iterator[Tensor]:
    """The images; fewer of them, if the batch may vary; and some of another size, if that may."""
    yield pixels
    if "batch" in dynamic:
        yield pixels[: max(1, min(3, len(pixels) - 1))]
    if "size" in dynamic:
        height, width = pixels.shape[-2:]
        # Larger, for it need not be large enough for less, odd, and no square.
        yield resize(pixels[:2], [height * 5 // 4 | 1, width * 3 // 2 | 1], antialias=True)


def _decoded(paths: Sequence[Path], preprocessing: Preprocessing) -> Tensor:
    return torch.stack([read_pixels(path, preprocessing) for path in paths])


def _evenly(length: int, count: int) -> list[int]:
    """At most `count` of the numbers 0 ... length - 1, as far apart as they can be."""
    return [length * i // min(count, length) for i in range(min(count, length))]
