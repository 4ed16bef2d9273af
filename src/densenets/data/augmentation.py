"""Augmentation of whole batches, on the device that holds them.

All random draws of a step are made for the global batch, on the CPU, from one generator; a rank takes its
rows. So the images do not depend on the device or on the number of ranks.

Shapes: B images of a batch, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from densenets.data.data_config import AugmentationStep
from densenets.data.preprocessing import Preprocessing

# Principal components of ImageNet's RGB pixels (Krizhevsky et al. 2012), as the official code has them.
_LIGHTING_DEVIATION = 0.1
_LIGHTING_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_LIGHTING_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation steps of training images.

    Attributes:
        steps: in order.
        padding: pixels on every side before "crop".
        size: side in pixels that the images are resized to after all steps; None: they are not.
    """

    steps: tuple[AugmentationStep, ...]
    padding: int
    size: int | None = None


@dataclass(frozen=True)
class Draws:
    """The random numbers that augment a batch.

    Attributes:
        mirrored: B, bool; whether the image is mirrored.
        offsets: B x 2, the crop's upper left corner as fractions in [0, 1) of its possible places.
        lighting: B x 3, strength of each principal component of colour.
        seeds: B, int64, for the random numbers of the workers that decode files.
    """

    mirrored: Tensor
    offsets: Tensor
    lighting: Tensor
    seeds: Tensor

    def rows(self, start: int, stop: int) -> Draws:
        """The draws of the images `start` to `stop` of the batch."""
        return self.at(slice(start, stop))

    def at(self, rows: Tensor | slice) -> Draws:
        """The draws of the images at these places of the batch."""
        return Draws(self.mirrored[rows], self.offsets[rows], self.lighting[rows], self.seeds[rows])


def draw(count: int, generator: torch.Generator) -> Draws:
    """Draw the random numbers for a batch of `count` images."""
    return Draws(
        mirrored=torch.rand(count, generator=generator) < 0.5,
        offsets=torch.rand(count, 2, generator=generator),
        lighting=torch.randn(count, 3, generator=generator) * _LIGHTING_DEVIATION,
        seeds=torch.randint(0, 2**62, (count,), generator=generator),
    )


def augment(images: Tensor, augmentation: Augmentation, draws: Draws, preprocessing: Preprocessing) -> Tensor:
    """Apply the steps in order, then resize: uint8 B x C x H x W -> float32 B x C x H x W, or size x size.

    "resized-crop" and "color-jitter" have been done by the worker that decoded the image.
    """
    for step in augmentation.steps:
        if step == "normalize":
            images = normalize(images, preprocessing)
        elif step == "mirror":
            images = mirror(images, draws.mirrored)
        elif step == "crop":
            images = padded_crop(images, draws.offsets, augmentation.padding)
        elif step == "lighting":
            images = pca_lighting(images, draws.lighting)
    return images if augmentation.size is None else resize(images, augmentation.size)


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(pixels / 255 - mean) / std: uint8 B x C x H x W -> float32 B x C x H x W."""
    mean = torch.tensor(preprocessing.mean, device=images.device).view(-1, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(-1, 1, 1)
    return (_to_float(images) - mean) / std


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Flip the chosen images left to right; `mirrored` is B, bool."""
    chosen = mirrored.to(images.device).view(-1, 1, 1, 1)
    return torch.where(chosen, images.flip(-1), images)


def padded_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Pad every side with zeros and crop back at `offsets` (B x 2, fractions in [0, 1)): same shape."""
    height, width = images.shape[-2:]
    padded = pad(images, [padding] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # B x C x P x P x H x W, a view
    places = 2 * padding + 1
    rows, columns = (offsets * places).long().to(images.device).unbind(dim=1)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def pca_lighting(images: Tensor, strengths: Tensor) -> Tensor:
    """Shift colours along ImageNet's principal components: B x C x H x W -> float32 in about 0 ... 1.

    Args:
        images: uint8, or float32 in 0 ... 1.
        strengths: B x 3, the factor of each component beside its eigenvalue.
    """
    vectors = torch.tensor(_LIGHTING_EIGENVECTORS)
    # Term by term: a matrix product may add in another order for another number of images.
    first, second, third = (strengths * torch.tensor(_LIGHTING_EIGENVALUES)).split(1, dim=1)
    shift = first * vectors[:, 0] + second * vectors[:, 1] + third * vectors[:, 2]  # B x 3
    if images.shape[1] == 1:
        shift = shift.mean(dim=1, keepdim=True)
    return _to_float(images) + shift.to(images.device)[:, :, None, None]


def resize(images: Tensor, size: int) -> Tensor:
    """Resize by antialiased bilinear interpolation: float32 B x C x H x W -> B x C x size x size."""
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def _to_float(images: Tensor) -> Tensor:
    """Pixels as float32 in 0 ... 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
