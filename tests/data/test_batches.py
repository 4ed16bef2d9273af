from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from densenets.data.augmentation import Augmentation, draw, normalize, pca_lighting
from densenets.data.batches import Batch, BatchOrder, Shard, evaluation_batches, seeded, training_batches
from densenets.data.data_config import AugmentationStep
from densenets.data.folder import class_names, scan
from densenets.data.image_sets import FileImages, Images, MemoryImages
from densenets.data.images import central_crop, read_image, ten_crops, to_pixels
from densenets.data.preprocessing import Preprocessing
from densenets.errors import InputError

CPU = torch.device("cpu")
IN_MEMORY = Augmentation(("lighting", "normalize", "mirror", "crop"), padding=2)
OF_FILES = Augmentation(("resized-crop", "color-jitter", "lighting", "normalize", "mirror"), padding=0)
COLOUR = Preprocessing(channels=3, image_size=12, resize=14, mean=(0.1, 0.5, 0.7), std=(0.2, 0.3, 0.4))


def order(count: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1) -> BatchOrder:
    return BatchOrder(count=count, batch_size=batch_size, seed=seed, shard=Shard(rank, world_size))


def indices(order: BatchOrder, epoch: int, first_step: int = 0) -> list[list[int]]:
    return [step.tolist() for step, _, _ in order.epoch(epoch, first_step)]


@pytest.fixture
def memory_images() -> MemoryImages:
    """23 images whose labels say which they are."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (23, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return MemoryImages(pixels, torch.arange(23))


@pytest.fixture
def file_images(picture_folder: Path) -> FileImages:
    """15 files whose labels say which they are."""
    files = scan(picture_folder / "train", class_names(picture_folder / "train"), skip_broken=False)
    return FileImages(files.paths, torch.arange(15))


def train(
    images: Images, order: BatchOrder, augmentation: Augmentation, *, first_step: int = 0, workers: int = 0
) -> list[Batch]:
    return list(
        training_batches(
            images,
            order,
            1,
            first_step,
            preprocessing=COLOUR,
            augmentation=augmentation,
            device=CPU,
            workers=workers,
        )
    )


def evaluate(
    images: Images, batch_size: int, shard: Shard, *, crops: int = 1, workers: int = 0
) -> list[Batch]:
    return list(
        evaluation_batches(
            images, batch_size, shard, preprocessing=COLOUR, device=CPU, workers=workers, crops=crops
        )
    )


def assert_same(batches: Sequence[Batch], expected: Sequence[Batch]) -> None:
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.labels, other.labels)
        assert batch.global_count == other.global_count


def test_an_epoch_has_every_image_once() -> None:
    for epoch in range(3):
        steps = indices(order(23, 5), epoch)
        assert [len(step) for step in steps] == [5, 5, 5, 5, 3]
        assert sorted(image for step in steps for image in step) == list(range(23))


def test_epochs_and_seeds_differ_and_nothing_else_matters() -> None:
    first = indices(order(50, 10), epoch=0)
    torch.manual_seed(7)
    assert indices(order(50, 10), epoch=0) == first
    assert indices(order(50, 10), epoch=1) != first
    assert indices(order(50, 10, seed=1), epoch=0) != first
    one_step = indices(order(50, 50), epoch=0)
    assert one_step == [[image for step in first for image in step]]


def test_an_epoch_goes_on_at_any_step() -> None:
    all_steps = list(order(23, 5).epoch(2))
    rest = list(order(23, 5).epoch(2, first_step=3))
    assert len(rest) == 2
    for (indices, draws, count), (expected, expected_draws, expected_count) in zip(
        rest, all_steps[3:], strict=True
    ):
        assert torch.equal(indices, expected)
        assert torch.equal(draws.offsets, expected_draws.offsets)
        assert torch.equal(draws.seeds, expected_draws.seeds)
        assert count == expected_count


@pytest.mark.parametrize(
    ("count", "batch_size", "world_size", "steps"),
    [
        (20, 5, 1, [5, 5, 5, 5]),
        (21, 5, 1, [5, 5, 5, 5]),  # from one image batch normalisation learns nothing
        (22, 5, 1, [5, 5, 5, 5, 2]),
        (23, 10, 2, [10, 10]),  # 1 and 2 images
        (24, 10, 2, [10, 10, 4]),
        (7, 64, 1, [7]),
        (2, 64, 1, [2]),
    ],
)
def test_the_last_step_has_at_least_two_images_a_process(
    count: int, batch_size: int, world_size: int, steps: list[int]
) -> None:
    batch_order = order(count, batch_size, world_size=world_size)
    assert batch_order.steps == len(steps)
    assert [global_count for _, _, global_count in batch_order.epoch(0)] == steps


@pytest.mark.parametrize(("count", "world_size"), [(0, 1), (1, 1), (3, 2), (5, 3)])
def test_too_few_images_for_a_step_are_refused(count: int, world_size: int) -> None:
    with pytest.raises(InputError, match=f"^{count} training images are too few"):
        order(count, 64, world_size=world_size)


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 2), (2, 3)])
def test_a_batch_that_leaves_a_process_no_image_is_refused(batch_size: int, world_size: int) -> None:
    with pytest.raises(InputError, match=f"^a global batch of {batch_size} "):
        order(100, batch_size, world_size=world_size)


@pytest.mark.parametrize(("batch_size", "world_size"), [(1, 1), (2, 2), (3, 2), (7, 3)])
def test_every_process_has_images_in_every_step(batch_size: int, world_size: int) -> None:
    for rank in range(world_size):
        steps = indices(order(30, batch_size, rank=rank, world_size=world_size), epoch=0)
        assert all(steps)


def test_images_that_are_left_out_leave_the_others_where_they_were() -> None:
    all_steps = list(order(23, 5).epoch(2))
    left_out = (3, 11, 12)
    places = [place for place in range(23) if place not in left_out]
    fewer = dataclasses.replace(order(23, 5), left_out=left_out)
    assert fewer.steps == len(all_steps)
    for (indices, draws, count), (all_indices, all_draws, _) in zip(fewer.epoch(2), all_steps, strict=True):
        kept = [row for row, place in enumerate(all_indices.tolist()) if place not in left_out]
        assert [places[index] for index in indices.tolist()] == all_indices[kept].tolist()
        assert draws.seeds.tolist() == all_draws.seeds[kept].tolist()
        assert count == len(kept)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_step_of_which_too_few_images_are_left_is_filled_up(world_size: int) -> None:
    first = order(40, 8).epoch(0).__next__()[0].tolist()
    left_out = tuple(sorted(first[:-1]))  # all of the first step but one
    ranks = [
        dataclasses.replace(order(40, 8, rank=rank, world_size=world_size), left_out=left_out)
        for rank in range(world_size)
    ]
    steps = [list(rank.epoch(0)) for rank in ranks]
    assert [count for _, _, count in steps[0]] == [2 * world_size, 8, 8, 8, 8]
    for parts in zip(*steps, strict=True):
        assert all(len(indices) >= 2 for indices, _, _ in parts)
        chosen = [index for indices, _, _ in parts for index in indices.tolist()]
        assert len(set(chosen)) == len(chosen) == parts[0][2]
        assert max(chosen) < 40 - len(left_out)


def test_too_few_images_left_are_refused() -> None:
    with pytest.raises(InputError, match=r"^1 training images are too few"):
        BatchOrder(count=4, batch_size=2, seed=0, shard=Shard(), left_out=(0, 1, 3))


def test_nearby_numbers_give_unrelated_streams() -> None:
    numbers = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1)]
    streams = {tuple(torch.rand(3, generator=seeded(*n)).tolist()) for n in numbers}
    assert len(streams) == len(numbers)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_ranks_share_the_images_and_draws_of_one_process(world_size: int) -> None:
    one = list(order(23, 8).epoch(1))
    ranks = [list(order(23, 8, rank=r, world_size=world_size).epoch(1)) for r in range(world_size)]
    for step, (chosen, draws, count) in enumerate(one):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part for part, _, _ in parts]), chosen)
        for field in ("mirrored", "offsets", "lighting", "seeds"):
            together = torch.cat([getattr(part, field) for _, part, _ in parts])
            assert torch.equal(together, getattr(draws, field))
        assert {global_count for _, _, global_count in parts} == {count}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_the_ranks_batches_are_those_of_one_process(
    kind: str, size: int | None, world_size: int, request: pytest.FixtureRequest
) -> None:
    images = request.getfixturevalue(f"{kind if kind == 'memory' else 'file'}_images")
    augmentation = dataclasses.replace(IN_MEMORY if kind == "memory" else OF_FILES, size=size)
    one = train(images, order(len(images), 8), augmentation)
    ranks = [
        train(images, order(len(images), 8, rank=r, world_size=world_size), augmentation)
        for r in range(world_size)
    ]
    joined = [
        Batch(
            torch.cat([part.images for part in parts]),
            torch.cat([part.labels for part in parts]),
            sum(len(part.labels) for part in parts),
        )
        for parts in zip(*ranks, strict=True)
    ]
    assert len(one) == (3 if kind == "memory" else 2)
    assert one[0].images.shape[-2:] == ((size, size) if size else (8, 8) if kind == "memory" else (12, 12))
    assert_same(joined, one)


def test_batches_in_memory_are_the_augmented_images(memory_images: MemoryImages) -> None:
    plain = train(memory_images, order(23, 5), Augmentation(("normalize",), padding=0))
    for batch in plain:
        assert torch.equal(batch.images, normalize(memory_images.pixels[batch.labels], COLOUR))


def test_batches_in_memory_go_on_at_any_step(memory_images: MemoryImages) -> None:
    all_steps = train(memory_images, order(23, 5), IN_MEMORY)
    assert_same(train(memory_images, order(23, 5), IN_MEMORY, first_step=2), all_steps[2:])


def test_the_number_of_workers_changes_no_pixel(file_images: FileImages) -> None:
    torch.manual_seed(1)
    alone = train(file_images, order(15, 4), OF_FILES, workers=0)
    torch.manual_seed(2)
    assert_same(train(file_images, order(15, 4), OF_FILES, workers=2), alone)
    assert_same(train(file_images, order(15, 4), OF_FILES, first_step=2, workers=2), alone[2:])


def test_random_crops_differ_between_images_and_epochs_and_seeds(file_images: FileImages) -> None:
    same_file = FileImages(file_images.paths[:1] * 4, torch.arange(4))
    crop = Augmentation(("resized-crop", "normalize"), padding=0)
    crops = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        batches = training_batches(
            same_file,
            order(4, 4, seed=seed),
            epoch,
            0,
            preprocessing=COLOUR,
            augmentation=crop,
            device=CPU,
            workers=0,
        )
        crops += [batch.images for batch in batches]
    assert torch.cat(crops).shape == (12, 3, 12, 12)
    assert len(torch.cat(crops).unique(dim=0)) == 12


@pytest.mark.parametrize("steps", [("resized-crop",), ("color-jitter",), ("resized-crop", "color-jitter")])
def test_files_are_cropped_and_jittered_as_torchvision_does(
    file_images: FileImages, steps: tuple[AugmentationStep, ...]
) -> None:
    # Brightness, contrast and saturation by 0.4, as in the official ImageNet code.
    oracles = {
        "resized-crop": v2.RandomResizedCrop(12, antialias=True),
        "color-jitter": v2.ColorJitter(0.4, 0.4, 0.4),
    }
    for index in range(2):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 16, 3), np.uint8)).save(
            file_images.paths[index]
        )
    colour = file_images.subset(torch.tensor([0, 1]))
    (batch,) = train(colour, order(2, 2), Augmentation((*steps, "normalize"), padding=0))
    ((chosen, draws, _),) = order(2, 2).epoch(1)
    for place, index in enumerate(chosen.tolist()):
        image = read_image(colour.paths[index], 3)
        torch.manual_seed(draws.seeds[place])
        for step in steps:
            image = oracles[step](image)
        pixels = central_crop(image, COLOUR) if "resized-crop" not in steps else to_pixels(image)
        assert torch.equal(batch.images[place], normalize(pixels[None], COLOUR)[0])


def test_without_a_random_crop_files_are_read_by_their_centre(file_images: FileImages) -> None:
    for batch in train(file_images, order(15, 4), Augmentation(("normalize",), padding=0)):
        centres = [central_crop(read_image(file_images.paths[i], 3), COLOUR) for i in batch.labels.tolist()]
        assert torch.equal(batch.images, normalize(torch.stack(centres), COLOUR))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_evaluation_sees_each_image_once_over_all_ranks(
    kind: str, world_size: int, request: pytest.FixtureRequest
) -> None:
    images = request.getfixturevalue(f"{kind}_images")
    seen = []
    for rank in range(world_size):
        batches = evaluate(images, 4, Shard(rank, world_size))
        labels = torch.cat([batch.labels for batch in batches]).tolist()
        assert labels == list(range(rank, len(images), world_size))
        assert all(len(batch.labels) == 4 for batch in batches[:-1])
        seen += labels
    assert sorted(seen) == list(range(len(images)))


def test_evaluation_of_memory_reads_the_images_whole(memory_images: MemoryImages) -> None:
    batches = evaluate(memory_images, 10, Shard())
    together = torch.cat([batch.images for batch in batches])
    assert torch.equal(together, normalize(memory_images.pixels, COLOUR))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_of_files_reads_their_centres(file_images: FileImages, workers: int) -> None:
    batches = evaluate(file_images, 4, Shard(), workers=workers)
    centres = [central_crop(read_image(path, 3), COLOUR) for path in file_images.paths]
    together = torch.cat([batch.images for batch in batches])
    assert torch.equal(together, normalize(torch.stack(centres), COLOUR))


def test_ten_crops_of_files_stand_side_by_side(file_images: FileImages) -> None:
    batches = evaluate(file_images, 4, Shard(), crops=10)
    assert batches[0].images.shape == (4, 10, 3, 12, 12)
    crops = ten_crops(read_image(file_images.paths[5], 3), COLOUR)
    assert torch.equal(batches[1].images[1], normalize(crops, COLOUR))


def test_a_rank_without_images_has_no_batches(memory_images: MemoryImages, file_images: FileImages) -> None:
    for images in (memory_images, file_images):
        one = images.subset(torch.tensor([0]))
        assert evaluate(one, 4, Shard(1, 2), workers=2) == []


def test_ten_crops_of_a_set_in_memory_are_refused(memory_images: MemoryImages) -> None:
    with pytest.raises(InputError, match="10 crops"):
        evaluate(memory_images, 4, Shard(), crops=10)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("training", [True, False])
def test_a_broken_file_ends_in_one_line_that_names_it(
    file_images: FileImages, training: bool, workers: int
) -> None:
    file_images.paths[7].write_bytes(b"no picture")

    def read() -> object:
        if training:
            return train(file_images, order(15, 4), OF_FILES, workers=workers)
        return evaluate(file_images, 4, Shard(), workers=workers)

    with pytest.raises(InputError) as caught:
        read()
    assert str(file_images.paths[7]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_papers_lighting_is_the_same_for_a_part_of_a_batch(memory_images: MemoryImages) -> None:
    strengths = draw(23, seeded(3)).lighting
    together = pca_lighting(memory_images.pixels, strengths)
    alone = [pca_lighting(memory_images.pixels[i : i + 1], strengths[i : i + 1]) for i in range(23)]
    assert torch.equal(torch.cat(alone), together)
