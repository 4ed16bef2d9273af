"""Classes of picture files, from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.folder_listing import find_pictures, print_left_out
from densenets.data.images import central_crop, read_image
from densenets.errors import InputError
from densenets.finite import check_weights, finite_rows, no_finite_logits
from densenets.names import printable


@dataclass(frozen=True)
class Prediction:
    """Likeliest classes of a picture, with their probabilities.

    Attributes:
        path: the file.
        classes: the likeliest classes, likeliest first.
        probabilities: of those classes, by the softmax.
    """

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and every image below the folders, in order; what is left out there is told.

    Raises:
        InputError: a path is not there, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"there is no file or folder {printable(str(path))}")
        if not path.is_dir():
            found.append(path)
            continue
        below = find_pictures(path)
        print_left_out(path, below.left_out)
        if not below.pictures:
            raise InputError(f"{printable(str(path))} holds no images")
        found += below.pictures
    return found


@torch.no_grad()
def predict(
    checkpoint: Checkpoint,
    paths: Sequence[Path],
    *,
    device: torch.device,
    top: int = 5,
    batch_size: int = 32,
    on_broken: Callable[[str], None] | None = None,
) -> Iterator[Prediction]:
    """Classify pictures one after another, in the order given.

    Args:
        checkpoint: network, classes and preprocessing.
        paths: picture files.
        device: where the network computes.
        top: how many classes a prediction names.
        batch_size: pictures that are computed together.
        on_broken: told of a picture that cannot be read, which is then left out.

    Raises:
        InputError: a picture is missing or broken, and `on_broken` is not given; or all are; or the network
            has no classes.
        NotFinite: weights or logits are NaN or infinite.
    """
    if not checkpoint.classes:
        raise InputError("the network has no classes to name: it gives features, not predictions")
    checkpoint.check_pictures()
    check_weights(checkpoint.model)
    model, readable = checkpoint.model.to(device), 0
    for start in range(0, len(paths), batch_size):
        read: list[tuple[Path, Tensor]] = []
        for path in paths[start : start + batch_size]:
            try:
                image = read_image(path, checkpoint.preprocessing.channels)
            except InputError as error:
                if on_broken is None:
                    raise
                on_broken(str(error))
                continue
            read.append((path, central_crop(image, checkpoint.preprocessing)))
        if not read:
            continue
        readable += len(read)
        images = torch.stack([pixels for _, pixels in read]).to(device)
        logits = model(normalize(images, checkpoint.preprocessing))
        for (path, _), is_finite in zip(read, finite_rows(logits).tolist(), strict=True):
            if not is_finite:
                raise no_finite_logits(printable(str(path)))
        best = logits.softmax(dim=1).cpu().topk(min(top, len(checkpoint.classes)), dim=1)
        for (path, _), values, indices in zip(read, best.values, best.indices, strict=True):
            names = tuple(checkpoint.classes[i] for i in indices.tolist())
            yield Prediction(path, names, tuple(values.tolist()))
    if paths and not readable:
        raise InputError(f"none of {len(paths)} pictures can be read")
