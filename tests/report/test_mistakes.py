"""The worst mistakes: those of the highest loss, found in the same pass as the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_networks import small_config
from torch.nn.functional import cross_entropy

from densenets.checkpoint import Checkpoint
from densenets.data.augmentation import normalize
from densenets.data.datasets import load_dataset
from densenets.data.preprocessing import Preprocessing
from densenets.distributed import joined_ranks
from densenets.evaluation_options import EvaluationOptions
from densenets.models.create import build_network
from densenets.report.mistakes import evaluate_with_mistakes

DIGITS = Preprocessing(channels=1, image_size=8, resize=8, mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def digits() -> Checkpoint:
    """A network that has learned nothing, with a bias towards some classes."""
    return untrained(tuple("0123456789"), DIGITS)


def untrained(classes: tuple[str, ...], preprocessing: Preprocessing) -> Checkpoint:
    config = small_config(in_channels=1, num_classes=len(classes))
    model = build_network(config, generator=torch.Generator().manual_seed(1))
    return Checkpoint(model=model.eval(), classes=classes, preprocessing=preprocessing, details={})


def found(checkpoint: Checkpoint, count: int, **options: object):
    with joined_ranks("cpu") as ranks:
        return evaluate_with_mistakes(
            checkpoint,
            EvaluationOptions(**options),
            ranks,
            count,  # type: ignore[arg-type]
        )


@torch.no_grad()
def test_they_are_the_wrong_images_of_the_highest_loss(digits: Checkpoint) -> None:
    evaluation, mistakes = found(digits, 7, data="digits", batch_size=50)
    test = load_dataset("digits", Path("data"), download=False).test
    logits = digits.model(normalize(test.pixels, DIGITS))
    losses = cross_entropy(logits, test.labels, reduction="none")
    wrong = logits.argmax(dim=1) != test.labels
    assert evaluation.images == 360
    assert evaluation.top1_error == pytest.approx(100 * float(wrong.double().mean()))
    order = losses.masked_fill(~wrong, -1).argsort(descending=True, stable=True)[:7]
    assert [mistake.name for mistake in mistakes] == [f"test image {index}" for index in order]
    for mistake, index in zip(mistakes, order.tolist(), strict=True):
        assert mistake.true == str(int(test.labels[index]))
        assert mistake.predicted == str(int(logits[index].argmax()))
        assert mistake.true_probability == pytest.approx(float((-losses[index]).exp()), rel=1e-4)
        assert mistake.predicted_probability == pytest.approx(float(logits[index].softmax(0).max()), rel=1e-4)
        assert torch.equal(mistake.pixels, test.pixels[index])


def test_the_batch_size_changes_nothing(digits: Checkpoint) -> None:
    _, whole = found(digits, 12, data="digits", batch_size=360)
    _, parts = found(digits, 12, data="digits", batch_size=7)
    assert [mistake.name for mistake in whole] == [mistake.name for mistake in parts]


def test_of_files_the_name_and_the_crop_are_told(picture_folder: Path) -> None:
    pixels = Preprocessing(channels=1, image_size=16, resize=16, mean=(0.3,), std=(0.4,))
    checkpoint = untrained(("one", "two", "zero"), pixels)
    evaluation, mistakes = found(checkpoint, 20, data=str(picture_folder), workers=0)
    wrong = evaluation.images - sum(evaluation.confusion[i][i] for i in range(3))
    assert len(mistakes) == wrong > 0
    for mistake in mistakes:
        assert (picture_folder / "val" / mistake.true / mistake.name).exists()
        assert mistake.pixels.shape == (1, 16, 16)


def test_who_watches_is_told_how_far_it_is(digits: Checkpoint) -> None:
    told: list[tuple[int, int]] = []
    with joined_ranks("cpu") as ranks:
        evaluate_with_mistakes(
            digits,
            EvaluationOptions(data="digits", batch_size=100),
            ranks,
            1,
            lambda done, of: told.append((done, of)),
        )
    assert told == [(100, 360), (200, 360), (300, 360), (360, 360)]
