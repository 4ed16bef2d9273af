"""Classifier: images as Python has them -> classes, probabilities and features, as the command line's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.images import central_crop, convert_image, read_image
from densenets.data.preprocessing import Preprocessing
from densenets.engines.engine import Engine, device_for, open_classifier
from densenets.errors import InputError
from densenets.machine import choose_device
from densenets.names import printable
from densenets.prediction import (
    check_classifies,
    check_finite,
    computed_batches,
    logits_only,
    most_probable,
    pooled_features,
)
from densenets.trained_network import TrainedNetwork

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
OneImage: TypeAlias = "str | Path | Image.Image | Array | Tensor"
Images: TypeAlias = "OneImage | list[OneImage] | tuple[OneImage, ...]"

_CHANNELS = (1, 3, 4)  # grey, RGB, RGB with transparency


@dataclass(frozen=True)
class Classification:
    """Most probable classes of an image, with their probabilities.

    Attributes:
        classes: the most probable classes, in descending order.
        probabilities: of those classes, by the softmax.
    """

    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Classifier:
    """A trained network that takes images as Python has them.

    `classifier(images)` and `classifier.embed(images)` take, one or several of:

    - a file's path, str or Path;
    - an image of Pillow, which is turned upright as its EXIF orientation says, as a file is;
    - a NumPy array of uint8: H x W, or H x W x C with 1, 3 (RGB) or 4 (RGB, transparency) channels;
      N x H x W x C is several;
    - a tensor of uint8, or of floating point in 0 ... 1 (rounded to 8 bits): C x H x W with such channels;
      N x C x H x W is several.

    A list or a tuple of them, which may be mixed, is several. Their sizes may differ: as `densenets predict`
    does, each is made grey or RGB, resized, cropped and normalised by the network's own preprocessing.

    Args:
        trained: a checkpoint, or an exported network.
        device: where it computes.
        batch_size: images of a forward pass.

    Raises:
        InputError: the network reads no pictures, or does not run on this device.
        NotFinite: weights are NaN or infinite.
    """

    def __init__(self, trained: TrainedNetwork, *, device: torch.device, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        trained.check_pictures(classify=not isinstance(trained, Checkpoint))
        self._trained, self._device, self._batch_size = trained, device, batch_size
        self._model: nn.Module = trained.network(device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        engine: Engine = "auto",
        trust: bool = False,
        device: str = "auto",
        batch_size: int = 32,
    ) -> Classifier:
        """Open a run's folder, a checkpoint, or an exported file in its engine.

        Args:
            path: of it.
            engine: that runs it; "auto" for what it was exported for, and PyTorch for a run or a checkpoint.
            trust: run the code that a .pt2 file holds.
            device: "auto", "cpu", "cuda", ...; exported files run on the CPU.
            batch_size: images of a forward pass.

        Raises:
            InputError: there is none, or it cannot be opened so.
            NotFinite: weights are NaN or infinite.
        """
        trained = open_classifier(Path(path), engine, trust=trust)
        return cls(trained, device=choose_device(device_for(Path(path), device)), batch_size=batch_size)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self._trained.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """From a picture to the network's input."""
        return self._trained.preprocessing

    def __call__(self, images: Images, top: int = 5) -> Classification | list[Classification]:
        """The most probable classes of one image, or a list of those of several, in their order.

        Args:
            images: one or several; see the class.
            top: number of classes that are named, at most.

        Returns:
            Of one image its classification; of several, even of a list of one, a list.

        Raises:
            InputError: an image cannot be read, or is of a wrong shape, type or range; there are none; the
                network has no classes.
            NotFinite: logits are NaN or infinite.
        """
        check_classifies(self._trained)
        if top < 1:
            raise InputError(f"top must be at least 1, got {top}")
        sources, is_one = _sources(images)
        logits = self._compute(sources, self._model, "logits")
        made = [Classification(*named) for named in most_probable(logits, self.classes, top)]
        return made[0] if is_one else made

    def embed(self, images: Images) -> Tensor:
        """The pooled features that the network's classifier reads, N x num_features (float32, on the CPU).

        Args:
            images: one (N = 1) or several; see the class.

        Raises:
            InputError: as of a call; or the network was exported, which leaves its logits only.
            NotFinite: features are NaN or infinite.
        """
        if not isinstance(self._trained, Checkpoint):
            raise logits_only("an exported file")
        sources, _ = _sources(images)
        return self._compute(sources, lambda x: pooled_features(self._model, x), "features")

    @torch.no_grad()
    def _compute(self, sources: Sequence[_Source], run: Callable[[Tensor], Tensor], kind: str) -> Tensor:
        """What the network computes of images: N x numbers, on the CPU."""
        preprocessing = self.preprocessing

        def decode(source: _Source) -> Tensor:
            return central_crop(source.read(preprocessing.channels), preprocessing)

        def compute(pixels: Tensor) -> Tensor:
            return run(normalize(pixels.to(self._device), preprocessing))

        outputs: list[Tensor] = []
        with contextlib.closing(computed_batches(sources, decode, compute, self._batch_size)) as batches:
            for decoded, computed in batches:
                check_finite([source.name for source in decoded], computed, kind)
                outputs.append(computed.cpu())
        return torch.cat(outputs)


@dataclass(frozen=True, eq=False)
class _Source:
    """One image as it was given.

    Attributes:
        image: a path, an image of Pillow, or an array H x W or H x W x C.
        name: for errors.
    """

    image: Path | Image.Image | Array
    name: str

    def read(self, channels: int) -> Image.Image:
        """The image upright, 8-bit grey (channels 1) or RGB (channels 3)."""
        if isinstance(self.image, Path):
            return read_image(self.image, channels)
        given = self.image
        try:
            return convert_image(
                given if isinstance(given, Image.Image) else Image.fromarray(given), channels
            )
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


def _sources(images: Images) -> tuple[list[_Source], bool]:
    """The images one by one, all of them checked as far as that needs no decoding; and whether it is one."""
    is_batch = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    is_one = not (is_batch or isinstance(images, list | tuple))
    listed: list[object] = [images] if is_one else list(images)  # type: ignore[arg-type]
    if not listed:
        raise InputError("there are no images to classify; give at least one")
    return [_source(image, "the image" if is_one else f"image {i}") for i, image in enumerate(listed)], is_one


def _source(image: object, name: str) -> _Source:
    if isinstance(image, str | Path):
        return _Source(Path(image), printable(str(image)))
    if isinstance(image, Image.Image):
        return _Source(image, name)
    if isinstance(image, Tensor):
        return _Source(_pixels_of_tensor(image, name), name)
    if isinstance(image, np.ndarray):
        return _Source(_pixels_of_array(image, name), name)
    raise InputError(
        f"{name} must be a path, an image of Pillow, an array of NumPy or a tensor, got a "
        f"{type(image).__name__}"
    )


def _pixels_of_array(array: Array, name: str) -> Array:
    """An array's pixels as Pillow takes them: uint8 H x W or H x W x C -> uint8 H x W or H x W x 3 or 4."""
    if array.dtype != np.uint8:
        raise InputError(f"{name} must be an array of uint8, 0 ... 255, got {array.dtype}")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)):
        raise InputError(
            f"{name} must be an array H x W or H x W x C with 1, 3 or 4 channels, got {_shape(array.shape)}"
        )
    if not array.size:
        raise InputError(f"{name} has no pixels: it is {_shape(array.shape)}")
    grey = array.ndim == 3 and array.shape[2] == 1
    return np.ascontiguousarray(array[..., 0] if grey else array)


def _pixels_of_tensor(tensor: Tensor, name: str) -> Array:
    """A tensor's pixels as Pillow takes them: uint8, or float in 0 ... 1, C x H x W -> uint8 H x W (x C)."""
    if tensor.ndim != 3 or tensor.shape[0] not in _CHANNELS:
        raise InputError(
            f"{name} must be a tensor C x H x W with 1, 3 or 4 channels, got {_shape(tuple(tensor.shape))}"
        )
    pixels = tensor.detach().cpu()
    if pixels.is_floating_point():
        if not ((pixels >= 0) & (pixels <= 1)).all():  # nor is NaN
            raise InputError(
                f"{name} must have floats in 0 ... 1, which its preprocessing normalises, got "
                f"{pixels.min():g} ... {pixels.max():g}"
            )
        pixels = (pixels.float() * 255).round().to(torch.uint8)
    elif pixels.dtype != torch.uint8:
        kind = str(pixels.dtype).removeprefix("torch.")
        raise InputError(f"{name} must be a tensor of uint8, or of floats in 0 ... 1, got {kind}")
    return _pixels_of_array(pixels.permute(1, 2, 0).numpy(), name)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
