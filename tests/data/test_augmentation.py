from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare
from torch import Tensor

from densenets.data.augmentation import (
    Augmentation,
    Draws,
    augment,
    draw,
    mirror,
    normalize,
    padded_crop,
    pca_lighting,
    resize,
)
from densenets.data.data_config import AugmentationStep
from densenets.data.preprocessing import Preprocessing

COLOUR = Preprocessing(channels=3, image_size=6, resize=6, mean=(0.1, 0.5, 0.7), std=(0.2, 0.3, 0.4))
CENTRE = 0.5  # the share that leaves a padded image where it was


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, channels: int = 3, side: int = 6) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator())


def chosen_draws(count: int, *, mirrored: bool = False, offset: float = CENTRE) -> Draws:
    return Draws(
        mirrored=torch.full((count,), mirrored),
        offsets=torch.full((count, 2), offset),
        lighting=torch.zeros(count, 3),
        seeds=torch.zeros(count, dtype=torch.int64),
    )


def test_normalize_is_share_less_mean_by_deviation() -> None:
    images = noise(4)
    mean = np.array(COLOUR.mean).reshape(3, 1, 1)
    std = np.array(COLOUR.std).reshape(3, 1, 1)
    expected = (images.numpy() / 255 - mean) / std
    normalized = normalize(images, COLOUR)
    assert normalized.dtype == torch.float32
    np.testing.assert_allclose(normalized.numpy(), expected, atol=1e-6)  # float32 against float64


def test_mirror_turns_exactly_the_chosen_images() -> None:
    images = noise(5)
    chosen = torch.tensor([True, False, False, True, False])
    turned = mirror(images, chosen)
    for before, after, is_chosen in zip(images, turned, chosen, strict=True):
        assert np.array_equal(after, np.flip(before.numpy(), axis=-1) if is_chosen else before)


def test_every_offset_crops_the_padded_image_there() -> None:
    padding, side = 2, 6
    places = [(row, column) for row in range(5) for column in range(5)]
    images = noise(len(places))
    offsets = torch.tensor([((row + 0.5) / 5, (column + 0.5) / 5) for row, column in places])
    crops = padded_crop(images, offsets, padding)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    for number, (row, column) in enumerate(places):
        expected = padded[number, :, row : row + side, column : column + side]
        assert np.array_equal(crops[number], expected)


def test_a_crop_of_images_that_are_not_square_keeps_their_shape() -> None:
    images = noise(2, side=8)[:, :, :5]
    assert torch.equal(padded_crop(images, torch.full((2, 2), CENTRE), 3), images)


@pytest.mark.parametrize("padding", [0, 1, 4, 100])
def test_the_largest_share_stays_inside_of_the_padding(padding: int) -> None:
    images = noise(1)
    largest = torch.full((1, 2), 1 - 2**-24)  # of torch.rand in float32
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (0, padding), (0, padding)))[..., -6:, -6:]
    assert np.array_equal(padded_crop(images, largest, padding), expected)


def test_padding_is_the_mean_colour_after_normalize_and_black_before() -> None:
    images, corner = noise(2), chosen_draws(2, offset=0.0)
    after = augment(images, Augmentation(("normalize", "crop"), padding=1), corner, COLOUR)
    assert not after[:, :, 0].any()  # zero is the mean
    assert not after[:, :, :, 0].any()
    before = augment(images, Augmentation(("crop", "normalize"), padding=1), corner, COLOUR)
    black = normalize(torch.zeros(2, 3, 6, 6, dtype=torch.uint8), COLOUR)
    assert torch.equal(before[:, :, 0], black[:, :, 0])
    assert torch.equal(before[:, :, 1:, 1:], after[:, :, 1:, 1:])


def test_steps_are_done_in_the_order_given() -> None:
    images, draws = noise(2), chosen_draws(2, mirrored=True, offset=0.0)
    plain = normalize(images, COLOUR)
    mirror_first = augment(images, Augmentation(("normalize", "mirror", "crop"), 2), draws, COLOUR)
    crop_first = augment(images, Augmentation(("normalize", "crop", "mirror"), 2), draws, COLOUR)
    # At offset 0 the padding shows above and on the left; mirrored afterwards, on the right.
    assert torch.equal(mirror_first[:, :, 2:, 2:], plain.flip(-1)[:, :, :-2, :-2])
    assert torch.equal(crop_first[:, :, 2:, :-2], plain.flip(-1)[:, :, :-2, 2:])
    assert not torch.equal(mirror_first, crop_first)


def test_steps_of_the_decoding_workers_are_passed_over() -> None:
    images, draws = noise(2), chosen_draws(2)
    steps = ("resized-crop", "color-jitter", "normalize")
    assert torch.equal(augment(images, Augmentation(steps, 4), draws, COLOUR), normalize(images, COLOUR))


# Krizhevsky et al. 2012: eigenvalues and eigenvectors (columns) of the covariance of ImageNet's RGB pixels.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def shifts(strengths: Tensor) -> np.ndarray:
    """B x 3: how far each colour of each image is moved."""
    return np.array(
        [
            [sum(EIGENVECTORS[c][i] * s[i] * EIGENVALUES[i] for i in range(3)) for c in range(3)]
            for s in strengths.tolist()
        ]
    )


def test_lighting_moves_colours_along_the_principal_components() -> None:
    images, strengths = noise(4), torch.randn(4, 3, generator=generator(1))
    expected = images.numpy() / 255 + shifts(strengths)[:, :, None, None]
    np.testing.assert_allclose(pca_lighting(images, strengths).numpy(), expected, atol=1e-6)


def test_lighting_of_grey_images_is_the_mean_of_the_colours_shifts() -> None:
    images, strengths = noise(4, channels=1), torch.randn(4, 3, generator=generator(1))
    expected = images.numpy() / 255 + shifts(strengths).mean(axis=1)[:, None, None, None]
    np.testing.assert_allclose(pca_lighting(images, strengths).numpy(), expected, atol=1e-6)


def test_normalize_after_lighting_does_not_scale_twice() -> None:
    images, draws = noise(2), chosen_draws(2)
    lit = augment(images, Augmentation(("lighting", "normalize"), 0), draws, COLOUR)
    assert torch.equal(lit, normalize(images, COLOUR))  # strengths of 0


@pytest.mark.parametrize("size", [1, 5, 16, 20, 24, 28, 31, 32, 40])
def test_a_resized_image_is_pillows(size: int) -> None:
    # Pillow's bilinear filter widens as an image shrinks, so that no pixel is passed over.
    images = normalize(noise(3, side=32), COLOUR)
    resized = resize(images, size)
    assert resized.shape == (3, 3, size, size)
    for image, ours in zip(images.flatten(0, 1), resized.flatten(0, 1), strict=True):
        expected = Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(ours.numpy(), np.asarray(expected), atol=1e-5)


def test_at_half_the_size_a_pixel_is_weighted_by_its_distance() -> None:
    # In one dimension 1 3 3 1, in eighths: the triangle of twice a pixel's width at four pixels' centres.
    images = normalize(noise(2, side=8), COLOUR)
    weights = torch.tensor([1.0, 3, 3, 1]) / 8
    patch = images[:, :, 1:5, 1:5]  # around the output's second pixel, which no border cuts off
    expected = torch.einsum("bcij,i,j->bc", patch, weights, weights)
    torch.testing.assert_close(resize(images, 4)[:, :, 1, 1], expected)


def test_images_are_resized_after_all_steps() -> None:
    images, draws = noise(4, side=8), draw(4, generator(3))
    steps: tuple[AugmentationStep, ...] = ("normalize", "mirror", "crop")
    own = augment(images, Augmentation(steps, 2), draws, COLOUR)
    assert torch.equal(augment(images, Augmentation(steps, 2, 6), draws, COLOUR), resize(own, 6))
    assert torch.equal(augment(images, Augmentation(steps, 2, 8), draws, COLOUR), own)


def test_draws_depend_on_nothing_but_the_generator() -> None:
    torch.manual_seed(1)
    first = draw(6, generator(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = draw(6, generator(5))
    assert torch.equal(torch.get_rng_state(), state)
    other = draw(6, generator(6))
    for field in ("mirrored", "offsets", "lighting", "seeds"):
        assert torch.equal(getattr(first, field), getattr(second, field))
    assert not torch.equal(first.offsets, other.offsets)
    assert not torch.equal(first.seeds, other.seeds)


def test_rows_of_draws_are_those_of_every_field() -> None:
    draws = draw(6, generator())
    part = draws.rows(2, 5)
    for field in ("mirrored", "offsets", "lighting", "seeds"):
        assert torch.equal(getattr(part, field), getattr(draws, field)[2:5])


def test_half_of_the_images_are_mirrored() -> None:
    share = draw(10_000, generator()).mirrored.double().mean()
    assert abs(share - 0.5) < 0.02  # four standard deviations


def test_lighting_is_drawn_with_the_papers_deviation() -> None:
    strengths = draw(10_000, generator()).lighting
    assert abs(strengths.std() - 0.1) < 0.002
    assert abs(strengths.mean()) < 0.003


def test_crops_are_uniform_over_the_nine_by_nine_places() -> None:
    count = 81 * 200
    images = torch.zeros(count, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 1  # where this pixel lands tells the offset
    crops = padded_crop(images, draw(count, generator()).offsets, 4)
    places = torch.bincount(crops.flatten(1).argmax(dim=1), minlength=81)
    assert (crops.flatten(1).sum(dim=1) == 1).all()
    assert len(places) == 81
    assert chisquare(places.numpy()).pvalue > 0.001
