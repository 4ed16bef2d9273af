"""The mistakes of which a network was surest: images whose class it thought least likely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from densenets.checkpoint import Checkpoint
from densenets.data.image_sets import MemoryImages
from densenets.data.images import read_pixels
from densenets.data.load import EvaluationImages
from densenets.distributed import Ranks
from densenets.evaluation import Evaluation, evaluate_on, images_of
from densenets.evaluation_options import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image that was taken for something else.

    Attributes:
        name: the file's, or of a set in memory its number among the images of its split, from 0.
        true: its class.
        true_probability: that the network gave to it.
        predicted: the class that it was taken for.
        predicted_probability: of that class.
        pixels: as the network saw it, uint8, channels x height x width.
    """

    name: str
    true: str
    true_probability: float
    predicted: str
    predicted_probability: float
    pixels: Tensor = field(repr=False, compare=False)


def evaluate_with_mistakes(
    checkpoint: Checkpoint,
    options: EvaluationOptions,
    ranks: Ranks,
    count: int,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[Evaluation, list[Mistake]]:
    """Evaluate a checkpoint, and find its worst mistakes in the same pass.

    Args:
        checkpoint: the network.
        options: what it is evaluated on.
        ranks: one process.
        count: mistakes that are wanted at most.
        watch: told after every batch how many images are done, of how many.

    Returns:
        The evaluation, and the wrongly classified images with the highest loss, the highest first; of equal
        ones the first image.

    Raises:
        InputError: the data is missing or broken, or its classes are not the checkpoint's.
    """
    images = images_of(checkpoint, options)
    worst = _WorstMistakes(count)

    def observe(labels: Tensor, logits: Tensor) -> None:
        worst.observe(labels, logits)
        if watch is not None:
            watch(worst.seen, len(images.images))

    evaluation = evaluate_on(checkpoint, images, options, ranks, observe)
    return evaluation, [_mistake(checkpoint, images, *mistake) for mistake in worst.ranked()]


class _WorstMistakes:
    """The wrongly classified images of the highest loss, of the batches seen so far."""

    def __init__(self, count: int) -> None:
        self._count, self.seen = count, 0
        self._log_probabilities = torch.empty(0)  # of the true class
        self._indices = torch.empty(0, dtype=torch.int64)
        self._pairs = torch.empty(0, 2, dtype=torch.int64)  # true class, predicted class
        self._predicted = torch.empty(0)  # log-probability of the predicted class

    def observe(self, labels: Tensor, logits: Tensor) -> None:
        """Add a batch: labels N, logits N x classes."""
        labels, log_probabilities = labels.cpu(), logits.detach().float().log_softmax(dim=1).cpu()
        largest, guesses = log_probabilities.max(dim=1)
        wrong = (guesses != labels).nonzero()[:, 0]
        true = log_probabilities[wrong, labels[wrong]]
        self._log_probabilities = torch.cat([self._log_probabilities, true])
        self._indices = torch.cat([self._indices, self.seen + wrong])
        self._pairs = torch.cat([self._pairs, torch.stack([labels[wrong], guesses[wrong]], dim=1)])
        self._predicted = torch.cat([self._predicted, largest[wrong]])
        self.seen += len(labels)
        order = self._log_probabilities.argsort(stable=True)[: self._count]
        self._log_probabilities, self._indices = self._log_probabilities[order], self._indices[order]
        self._pairs, self._predicted = self._pairs[order], self._predicted[order]

    def ranked(self) -> list[tuple[int, int, int, float, float]]:
        """Index, true class, predicted class, and the probabilities of the two, of each, the worst first."""
        return [
            (int(index), int(true), int(guess), float(p_true), float(p_guess))
            for index, (true, guess), p_true, p_guess in zip(
                self._indices, self._pairs, self._log_probabilities.exp(), self._predicted.exp(), strict=True
            )
        ]


def _mistake(
    checkpoint: Checkpoint,
    evaluated: EvaluationImages,
    index: int,
    true: int,
    guess: int,
    p_true: float,
    p_guess: float,
) -> Mistake:
    images = evaluated.images
    if isinstance(images, MemoryImages):
        name, pixels = f"{evaluated.split} image {index}", images.pixels[index].cpu()
    else:
        path = images.paths[index]
        name, pixels = path.name, read_pixels(path, checkpoint.preprocessing)
    return Mistake(
        name=name,
        true=checkpoint.classes[true],
        true_probability=p_true,
        predicted=checkpoint.classes[guess],
        predicted_probability=p_guess,
        pixels=pixels,
    )
