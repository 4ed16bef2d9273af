"""Batches in the order that a seed gives, whatever the device, the workers or the number of ranks.

A step's global batch is a pure function of (seed, epoch, step); a rank takes its contiguous share. So a run
that was interrupted goes on at any step, and several processes see what one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from densenets.data.augmentation import Augmentation, Draws, augment, draw, normalize
from densenets.data.dataset_info import steps_per_epoch
from densenets.data.image_sets import FileImages, Images, MemoryImages
from densenets.data.images import central_crop, read_image, ten_crops, to_pixels
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError

_JITTER = 0.4  # brightness, contrast and saturation, as in the official ImageNet code


@dataclass(frozen=True)
class Shard:
    """This process's place among those that share each batch: its rank and their number."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Batch:
    """This rank's share of a step's global batch.

    Attributes:
        images: float32, B x C x H x W; with ten crops B x 10 x C x H x W.
        labels: int64, B.
        global_count: images of the step on all ranks.
    """

    images: Tensor
    labels: Tensor
    global_count: int


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """Assignment of images to training steps, by seed and epoch.

    Attributes:
        count: number of training images, those that are left out included.
        batch_size: images of a step on all ranks, the global batch.
        seed: of the run.
        shard: this rank's place.
        left_out: indices of images that are left out. Order and steps stay those of all images, so that a
            run can go on when some turn out broken.

    Raises:
        InputError: there are too few images for one step, or a rank would get none of a batch.
    """

    count: int
    batch_size: int
    seed: int
    shard: Shard
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.batch_size < self.shard.world_size:
            raise InputError(
                f"a global batch of {self.batch_size} leaves some of {self.shard.world_size} processes no "
                "image; start fewer processes, or raise --training.batch-size of a new run"
            )
        images = self.count - len(self.left_out)
        if not self.steps or images < 2 * self.shard.world_size:
            raise InputError(
                f"{images} training images are too few for a step on {self.shard.world_size} "
                "process(es); at least 2 a process are needed"
            )

    @property
    def steps(self) -> int:
        """Number of steps of an epoch over all images; see `steps_per_epoch`."""
        return steps_per_epoch(self.count, self.batch_size, self.shard.world_size)

    @property
    def has_single_images(self) -> bool:
        """Whether some rank computes some step on a single image."""
        return self.batch_size // self.shard.world_size == 1

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Draws, int]]:
        """Yield this rank's (indices, draws) and the global batch's size for every step from `first_step` on.

        An index is a place among the images that are not left out.
        """
        order = torch.randperm(self.count, generator=seeded(self.seed, epoch))
        for step in range(first_step, self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            draws = draw(len(indices), seeded(self.seed, epoch, step))
            if self.left_out:
                indices, draws = self._without_left_out(indices, draws, order.roll(-step * self.batch_size))
            start, stop = (len(indices) * (self.shard.rank + i) // self.shard.world_size for i in (0, 1))
            yield indices[start:stop], draws.rows(start, stop), len(indices)

    def _without_left_out(self, indices: Tensor, draws: Draws, order: Tensor) -> tuple[Tensor, Draws]:
        """A step's images that are not left out, with their draws.

        Where too few are left for batch normalisation, the images that follow in the order fill up.
        """
        is_used = torch.ones(self.count, dtype=torch.bool)
        is_used[list(self.left_out)] = False
        is_used_here = is_used[indices]
        count = max(int(is_used_here.sum()), min(len(indices), 2 * self.shard.world_size))
        rows = (~is_used_here).int().argsort(stable=True)[:count]
        used_index = is_used.cumsum(0) - 1  # of each image among those that are used
        return used_index[order[is_used[order]][:count]], draws.at(rows)


def seeded(*numbers: int) -> torch.Generator:
    """A random generator seeded by several numbers; nearby numbers give unrelated streams."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers; (1, 2) and (1, 2, 0) give unrelated ones."""
    # numpy ignores trailing zeros, so the number of numbers goes first.
    state = np.random.SeedSequence((len(numbers), *numbers)).generate_state(1, np.uint64)[0]
    return int(state) % 2**63


def training_batches(
    images: Images,
    order: BatchOrder,
    epoch: int,
    first_step: int,
    *,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    device: torch.device,
    workers: int,
) -> Iterator[Batch]:
    """Yield the augmented batches of an epoch, from step `first_step` on.

    Raises:
        InputError: an image file is missing or broken.
    """
    steps = order.epoch(epoch, first_step)
    if isinstance(images, MemoryImages):
        for indices, draws, global_count in steps:
            chosen = indices.to(device)
            pixels = augment(images.pixels[chosen], augmentation, draws, preprocessing)
            yield Batch(pixels, images.labels[chosen], global_count)
        return
    drawn_steps = list(steps)
    requests = [
        list(zip(indices.tolist(), draws.seeds.tolist(), strict=True)) for indices, draws, _ in drawn_steps
    ]
    reader = _TrainingReader(images, preprocessing, augmentation)
    for (indices, draws, global_count), decoded in zip(
        drawn_steps, _decode(reader, requests, workers, device), strict=True
    ):
        pixels = augment(decoded, augmentation, draws, preprocessing)
        yield Batch(pixels, images.labels[indices].to(device), global_count)


def evaluation_batches(
    images: Images,
    batch_size: int,
    shard: Shard,
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    workers: int,
    crops: int = 1,
) -> Iterator[Batch]:
    """Yield this rank's images in batches, each image exactly once, in order.

    Args:
        images: of all ranks.
        batch_size: images of a batch, on this rank.
        shard: this rank's place; rank r takes the images r, r + world size, ...
        preprocessing: of the network.
        device: where the batches go.
        workers: processes that decode files.
        crops: 1 (the centre) or, of files, 10 (corners, centre, mirrored): B x 10 x C x H x W.

    Raises:
        InputError: an image file is missing or broken, or ten crops are asked of a set in memory.
    """
    indices = torch.arange(shard.rank, len(images), shard.world_size)
    chunks = list(indices.split(batch_size)) if len(indices) else []
    if isinstance(images, MemoryImages):
        if crops != 1:
            raise InputError("10 crops are for image folders; sets in memory are evaluated whole")
        for chunk in chunks:
            chosen = chunk.to(device)
            yield Batch(normalize(images.pixels[chosen], preprocessing), images.labels[chosen], len(chunk))
        return
    reader = _EvaluationReader(images, preprocessing, crops)
    requests = [[(i, 0) for i in chunk.tolist()] for chunk in chunks]
    for chunk, decoded in zip(chunks, _decode(reader, requests, workers, device), strict=True):
        yield Batch(normalize(decoded, preprocessing), images.labels[chunk].to(device), len(chunk))


_Request = tuple[int, int]  # index of the image, seed of its random draws


class _TrainingReader(Dataset[Tensor | str]):
    """Decodes a training image: a request -> uint8 C x size x size, or what is wrong with the file."""

    def __init__(
        self,
        images: FileImages,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
    ) -> None:
        self.images, self.preprocessing, self.augmentation = images, preprocessing, augmentation
        self.resized_crop = v2.RandomResizedCrop(preprocessing.image_size, antialias=True)
        self.jitter = v2.ColorJitter(_JITTER, _JITTER, _JITTER)

    def __getitem__(self, request: _Request) -> Tensor | str:
        index, seed = request
        try:
            image = read_image(self.images.paths[index], self.preprocessing.channels)
        except InputError as error:
            # An exception would lose its form on the way out of the worker process.
            return str(error)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._crop(image)

    def _crop(self, image: Image.Image) -> Tensor:
        for step in self.augmentation.steps:
            if step == "resized-crop":
                image = self.resized_crop(image)
            elif step == "color-jitter":
                image = self.jitter(image)
        if "resized-crop" not in self.augmentation.steps:
            return central_crop(image, self.preprocessing)
        return to_pixels(image)


class _EvaluationReader(Dataset[Tensor | str]):
    """Decodes an image's 1 or 10 crops: a request -> uint8 (10 x) C x size x size, or what is wrong."""

    def __init__(self, images: FileImages, preprocessing: Preprocessing, crops: int) -> None:
        self.images, self.preprocessing, self.crops = images, preprocessing, crops

    def __getitem__(self, request: _Request) -> Tensor | str:
        try:
            image = read_image(self.images.paths[request[0]], self.preprocessing.channels)
        except InputError as error:
            return str(error)
        crop = ten_crops if self.crops == 10 else central_crop
        return crop(image, self.preprocessing)


def _decode(
    reader: Dataset[Tensor | str],
    requests: Sequence[Sequence[_Request]],
    workers: int,
    device: torch.device,
) -> Iterator[Tensor]:
    loader = DataLoader(
        reader,
        batch_sampler=requests,  # type: ignore[arg-type]  # any iterable of lists serves
        num_workers=min(workers, len(requests)),
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    for decoded in loader:
        if isinstance(decoded, str):
            # A file that is removed would shift the order of all others.
            raise InputError(
                f"{decoded}; mend it, or leave such files out with --skip-broken "
                "(of train --data.skip-broken)"
            )
        yield decoded.to(device, non_blocking=True)


def _collate(images: list[Tensor | str]) -> Tensor | str:
    broken = [image for image in images if isinstance(image, str)]
    return broken[0] if broken else torch.stack([i for i in images if isinstance(i, Tensor)])
