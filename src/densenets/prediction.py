"""Prediction of the classes of picture files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenets.data.augmentation import normalize
from densenets.data.folder_listing import find_pictures, print_left_out
from densenets.data.images import central_crop, read_image
from densenets.errors import InputError
from densenets.finite import finite_rows, no_finite_logits
from densenets.names import printable
from densenets.trained_network import TrainedNetwork


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
    if not classifier.classes:
        raise InputError("the network has no classes to name: it gives features, not predictions")
    classifier.check_pictures()
    model, readable = classifier.network(device), 0
    for start in range(0, len(paths), batch_size):
        decoded: list[tuple[Path, Tensor]] = []
        for path in paths[start : start + batch_size]:
            try:
                image = read_image(path, classifier.preprocessing.channels)
            except InputError as error:
                if on_broken is None:
                    raise
                on_broken(str(error))
                continue
            decoded.append((path, central_crop(image, classifier.preprocessing)))
        if not decoded:
            continue
        readable += len(decoded)
        images = torch.stack([pixels for _, pixels in decoded]).to(device)
        logits = model(normalize(images, classifier.preprocessing))
        for (path, _), is_finite in zip(decoded, finite_rows(logits).tolist(), strict=True):
            if not is_finite:
                raise no_finite_logits(printable(str(path)))
        best = logits.softmax(dim=1).cpu().topk(min(top, len(classifier.classes)), dim=1)
        for (path, _), values, indices in zip(decoded, best.values, best.indices, strict=True):
            names = tuple(classifier.classes[i] for i in indices.tolist())
            yield Prediction(path, names, tuple(values.tolist()))
    if paths and not readable:
        raise InputError(f"none of {len(paths)} pictures can be read")
