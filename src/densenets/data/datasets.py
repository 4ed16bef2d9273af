"""The named data sets (digits, CIFAR, SVHN, ...) in memory; torchvision fetches and checks their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch

from densenets.data.data_config import require_package_of
from densenets.data.image_sets import MemoryImages
from densenets.errors import InputError

_DIGITS_TEST = 360  # the last fifth; its writers are not those of the first four


@dataclass(frozen=True)
class NamedDataset:
    """Training images, test images and class names of a named data set."""

    training: MemoryImages
    test: MemoryImages
    classes: tuple[str, ...]


def load_dataset(name: str, root: Path, *, download: bool) -> NamedDataset:
    """Load a named data set into memory.

    Args:
        name: one of `densenets.data.data_config.MEMORY_DATA`.
        root: folder of the set's files, in torchvision's layout.
        download: fetch files that are missing, with progress and checksums.

    Raises:
        InputError: the set is not there or damaged, or could not be fetched, or the package that brings it is
            not installed.
    """
    require_package_of(name)
    try:
        return _LOADERS[name](root, download)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise InputError(f"could not download {name}: {error}; is there a network?") from error
    except (RuntimeError, ValueError, EOFError) as error:
        # torchvision's words for "not there", "checksum differs" and "ends too early".
        advice = (
            "remove it and try again"
            if download
            else "put it there, or fetch it with --data.download (of train)"
        )
        raise InputError(f"{name} is not in {root}, or is damaged; {advice}") from error


def _digits(root: Path, download: bool) -> NamedDataset:  # noqa: ARG001 - it comes with scikit-learn
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    all_images = _memory(pixels, labels)
    first, last = torch.arange(len(labels)).split([len(labels) - _DIGITS_TEST, _DIGITS_TEST])
    return NamedDataset(all_images.subset(first), all_images.subset(last), tuple("0123456789"))


def _fashion_mnist(root: Path, download: bool) -> NamedDataset:
    from torchvision.datasets import FashionMNIST

    training, test = (FashionMNIST(root, train=t, download=download) for t in (True, False))
    return NamedDataset(
        _memory(training.data.numpy()[:, None], training.targets),
        _memory(test.data.numpy()[:, None], test.targets),
        tuple(training.classes),
    )


def _cifar10(root: Path, download: bool) -> NamedDataset:
    from torchvision.datasets import CIFAR10

    training, test = (CIFAR10(root, train=t, download=download) for t in (True, False))
    return _cifar_arrays(training, test)


def _cifar100(root: Path, download: bool) -> NamedDataset:
    from torchvision.datasets import CIFAR100

    training, test = (CIFAR100(root, train=t, download=download) for t in (True, False))
    return _cifar_arrays(training, test)


def _cifar_arrays(training, test) -> NamedDataset:  # type: ignore[no-untyped-def]  # torchvision has no types
    return NamedDataset(
        _memory(training.data.transpose(0, 3, 1, 2), training.targets),
        _memory(test.data.transpose(0, 3, 1, 2), test.targets),
        tuple(training.classes),
    )


def _svhn(root: Path, download: bool) -> NamedDataset:
    from torchvision.datasets import SVHN

    # The paper trains on train + extra, 73,257 + 531,131 images.
    train, extra, test = (SVHN(root, split=s, download=download) for s in ("train", "extra", "test"))
    return NamedDataset(
        _memory(np.concatenate([train.data, extra.data]), np.concatenate([train.labels, extra.labels])),
        _memory(test.data, test.labels),
        tuple("0123456789"),
    )


def _memory(pixels: np.ndarray, labels: object) -> MemoryImages:
    """Images of a NumPy array of pixels, uint8 N x C x H x W, and N integer labels."""
    return MemoryImages(
        torch.from_numpy(np.ascontiguousarray(pixels)),
        torch.from_numpy(np.asarray(labels).astype(np.int64)),
    )


_LOADERS: dict[str, Callable[[Path, bool], NamedDataset]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "svhn": _svhn,
}
