"""Prediction of classes, and features, of picture files, which are decoded while the network computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.folder_listing import find_pictures, print_left_out
from densenets.data.images import read_pixels
from densenets.errors import InputError
from densenets.finite import finite_rows, no_finite_logits
from densenets.models.network import Network
from densenets.names import printable
from densenets.trained_network import TrainedNetwork

Item = TypeVar("Item")


@dataclass(frozen=True)
class Prediction:
    """Most probable classes of a picture, with their probabilities.

    Attributes:
        path: the file.
        classes: the most probable classes, in descending order.
        probabilities: of those classes, by the softmax.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The given files, and every picture below the given folders, in order.

    The number of other files in a folder is printed on standard error.

    Raises:
        InputError: a path does not exist, or a folder holds no picture.
    """
    pictures: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"there is no file or folder {printable(str(path))}")
        if not path.is_dir():
            pictures.append(path)
            continue
        files = find_pictures(path)
        print_left_out(path, files.left_out)
        if not files.pictures:
            raise InputError(f"{printable(str(path))} holds no images")
        pictures += files.pictures
    return pictures


@torch.no_grad()
def predict(
    classifier: TrainedNetwork,
    paths: Sequence[Path],
    *,
    device: torch.device,
    top: int = 5,
    batch_size: int = 32,
    on_broken: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Classify pictures one after another, in the order given.

    Args:
        classifier: a checkpoint or an exported network.
        paths: picture files.
        device: where the network computes.
        top: number of classes of a prediction.
        batch_size: pictures of a forward pass.
        on_broken: called with the error of a picture that cannot be read, which is then left out.

    Raises:
        InputError: a picture is missing or broken, and `on_broken` is not given; or all are; or the network
            has no classes.
        NotFinite: weights or logits are NaN or infinite.
    """
    check_classifies(classifier)
    model, preprocessing = classifier.network(device), classifier.preprocessing

    def logits_of(pixels: Tensor) -> Tensor:
        return model(normalize(pixels.to(device), preprocessing))

    batches = computed_batches(
        paths, partial(read_pixels, preprocessing=preprocessing), logits_of, batch_size, on_broken
    )
    with contextlib.closing(batches):
        for decoded, logits in batches:
            check_finite([printable(str(path)) for path in decoded], logits)
            named = most_probable(logits, classifier.classes, top)
            for path, (names, values) in zip(decoded, named, strict=True):
                yield Prediction(path, names, values)


@torch.no_grad()
def embed(
    checkpoint: Checkpoint,
    paths: Sequence[Path],
    *,
    device: torch.device,
    batch_size: int = 32,
    on_broken: Callable[[str], None] | None = None,
) -> Iterator[tuple[Path, Tensor]]:
    """The pooled features of pictures, num_features each (float32, on the CPU), in the order given.

    Args:
        checkpoint: of the network, which needs no classes.
        paths: picture files.
        device: where the network computes.
        batch_size: pictures of a forward pass.
        on_broken: as of `predict`.

    Raises:
        InputError: a picture is missing or broken, and `on_broken` is not given; or all are; or the network
            reads no pictures, or larger ones than the preprocessing makes.
        NotFinite: weights or features are NaN or infinite.
    """
    checkpoint.check_pictures(classify=False)
    model, preprocessing = checkpoint.network(device), checkpoint.preprocessing

    def features_of(pixels: Tensor) -> Tensor:
        return pooled_features(model, normalize(pixels.to(device), preprocessing))

    batches = computed_batches(
        paths, partial(read_pixels, preprocessing=preprocessing), features_of, batch_size, on_broken
    )
    with contextlib.closing(batches):
        for decoded, features in batches:
            check_finite([printable(str(path)) for path in decoded], features, "features")
            yield from zip(decoded, features.cpu(), strict=True)


def computed_batches(
    items: Sequence[Item],
    decode: Callable[[Item], Tensor],
    compute: Callable[[Tensor], Tensor],
    batch_size: int,
    on_broken: Callable[[str], None] | None = None,
) -> Generator[tuple[list[Item], Tensor], None, None]:
    """Decode pictures in batches, and compute each batch while a thread decodes the next one.

    The thread rests while the caller works with a batch: filters of warnings, which decoding sets, are one
    for all threads.

    Args:
        items: pictures, in the order in which they are handed out.
        decode: picture -> pixels of one shape for all; raises `InputError` of a broken one.
        compute: pixels of a batch -> N x numbers; called in the caller's thread.
        batch_size: pictures of a batch, broken ones included.
        on_broken: called with the error of a broken picture, in the caller's thread, before its batch is
            computed; the picture is then left out.

    Returns:
        Of each batch the pictures that are not broken, and what was computed of them.

    Raises:
        InputError: a picture is broken, and `on_broken` is not given; or all are.
    """
    readable = 0
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="densenets-decode") as pool:
        ahead = pool.submit(_decode_all, decode, items[:batch_size])
        for start in range(0, len(items), batch_size):
            decoded: list[tuple[Item, Tensor]] = []
            for item, pixels in ahead.result():
                if isinstance(pixels, Tensor):
                    decoded.append((item, pixels))
                elif on_broken is None:
                    raise pixels
                else:
                    on_broken(str(pixels))
            ahead = pool.submit(_decode_all, decode, items[start + batch_size : start + 2 * batch_size])
            if not decoded:
                continue
            readable += len(decoded)
            outputs = compute(torch.stack([pixels for _, pixels in decoded]))
            wait([ahead])
            yield [item for item, _ in decoded], outputs
    if items and not readable:
        raise InputError(f"none of {len(items)} pictures can be read")


def _decode_all(
    decode: Callable[[Item], Tensor], items: Sequence[Item]
) -> list[tuple[Item, Tensor | InputError]]:
    """Each picture's pixels, or the error of a broken one."""
    decoded: list[tuple[Item, Tensor | InputError]] = []
    for item in items:
        try:
            decoded.append((item, decode(item)))
        except InputError as error:
            decoded.append((item, error))
    return decoded


def check_classifies(classifier: TrainedNetwork) -> None:
    """Check that a network tells the classes of pictures.

    Raises:
        InputError: it has no classes, reads no pictures, or larger ones than the preprocessing makes.
    """
    if not classifier.classes:
        raise InputError("the network has no classes to name: it gives features, not predictions")
    classifier.check_pictures()


def check_finite(names: Sequence[str], outputs: Tensor, kind: str = "logits") -> None:
    """Check that what a network computed of pictures of these names, N x numbers, is finite.

    Raises:
        NotFinite: it is not.
    """
    for name, is_finite in zip(names, finite_rows(outputs).tolist(), strict=True):
        if not is_finite:
            raise no_finite_logits(name, kind)


def most_probable(
    logits: Tensor, classes: tuple[str, ...], top: int
) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
    """The most probable classes of each row of logits, in descending order, and their probabilities."""
    best = logits.softmax(dim=1).cpu().topk(min(top, len(classes)), dim=1)
    for values, indices in zip(best.values, best.indices, strict=True):
        yield tuple(classes[i] for i in indices.tolist()), tuple(values.tolist())


def pooled_features(model: nn.Module, images: Tensor) -> Tensor:
    """What the classifier of a network reads: normalised N x C x H x W -> N x num_features."""
    assert isinstance(model, Network)
    features: Tensor = model.forward_features(images).mean(dim=model.sides)
    return features


def logits_only(network: object) -> InputError:
    """The error where features of an exported network are wanted."""
    return InputError(
        f"{network} gives logits only, no features; load the checkpoint that it was exported from"
    )
