"""Fixtures that several folders of tests share."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Real handwritten digits as PNG files of 16x16: train/ with 5 a class, val/ with 3; one, two, zero."""
    images, labels = load_digits(return_X_y=True)
    root = tmp_path / "pictures"
    for digit, name in enumerate(("zero", "one", "two")):
        chosen = np.rint(images[labels == digit].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        for split, numbers in (("train", range(5)), ("val", range(5, 8))):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in numbers:
                doubled = np.kron(chosen[number], np.ones((2, 2), np.uint8))
                Image.fromarray(doubled).save(folder / f"{number}.png")
    return root


@dataclass(frozen=True)
class TinyCifar:
    """CIFAR-10 in its official files, with 20 images to train on and 6 to test on."""

    root: Path  # holds cifar-10-batches-py/
    pixels: np.ndarray  # uint8, 26 x 3 x 32 x 32
    labels: np.ndarray  # 26


@pytest.fixture
def tiny_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyCifar:
    """A tiny CIFAR-10 on disk, whose checksums torchvision is given."""
    from torchvision.datasets import CIFAR10

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (26, 3, 32, 32), dtype=np.uint8)
    labels = random.integers(0, 10, 26)
    root = tmp_path / "made"
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: dict[str, object]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name: str, start: int, stop: int) -> list[str]:
        rows = pixels[start:stop].reshape(stop - start, -1)  # all of red, then green, then blue
        return [name, write(name, {"data": rows, "labels": labels[start:stop].tolist()})]

    training = [batch(f"data_batch_{n + 1}", 4 * n, 4 * n + 4) for n in range(5)]
    test = [batch("test_batch", 20, 26)]
    names = [f"class {n}" for n in range(10)]
    meta = {**CIFAR10.meta, "md5": write("batches.meta", {"label_names": names})}
    for field, value in (("train_list", training), ("test_list", test), ("meta", meta)):
        monkeypatch.setattr(CIFAR10, field, value)
    return TinyCifar(root, pixels, labels)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What torch.compile has compiled for other tests is forgotten."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
