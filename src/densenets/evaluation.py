"""Evaluation of a network on labelled images: loss and error rates, exact for any number of ranks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from densenets.data.batches import Batch, evaluation_batches
from densenets.data.data_config import DataConfig
from densenets.data.load import EvaluationImages, load_evaluation_images
from densenets.distributed import Ranks
from densenets.errors import InputError
from densenets.evaluation_options import EvaluationOptions
from densenets.files import write_json
from densenets.finite import finite_rows, no_finite_logits
from densenets.trained_network import TrainedNetwork

Observer = Callable[[Tensor, Tensor], None]

_TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """Loss, error rates and confusion matrix of a network on a set of images.

    Attributes:
        images: how many there were, on all ranks.
        loss: mean cross-entropy in nats, without label smoothing.
        top1_error: percent of images whose class was not the first guess.
        top5_error: percent of images whose class was not among the first five guesses.
        confusion: confusion[i][j] images of class i were taken for class j.
        seconds: wall-clock time, decoding included.
        split: training, validation or test; "all" for a folder that is no split, "" if it is not known.
    """

    images: int
    loss: float
    top1_error: float
    top5_error: float
    confusion: list[list[int]]
    seconds: float
    split: str = ""

    @property
    def images_per_second(self) -> float:
        """Throughput of the evaluation, all ranks together, decoding included."""
        return self.images / self.seconds

    def per_class(self, classes: tuple[str, ...]) -> list[dict[str, Any]]:
        """Rows of every class: name, images, top-1 error in percent, most frequent wrong guess."""
        rows = []
        for label, (name, counts) in enumerate(zip(classes, self.confusion, strict=True)):
            total, wrong = sum(counts), sum(counts) - counts[label]
            others = [0 if i == label else count for i, count in enumerate(counts)]
            rows.append(
                {
                    "class": name,
                    "images": total,
                    "top1_error": 100 * wrong / total if total else None,
                    "most_often_taken_for": classes[others.index(max(others))] if wrong else None,
                }
            )
        return rows

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """All fields, and the per-class rows, as JSON."""
        return {
            "split": self.split,
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "loss": self.loss,
            "images": self.images,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "per_class": self.per_class(classes),
            "confusion": self.confusion,
        }


def evaluate_checkpoint(classifier: TrainedNetwork, options: EvaluationOptions, ranks: Ranks) -> Evaluation:
    """Evaluate a checkpoint, or an exported network, with its own preprocessing.

    Raises:
        InputError: the data is missing or broken, or its classes are not the checkpoint's.
    """
    return evaluate_on(classifier, images_of(classifier, options), options, ranks)


def images_of(classifier: TrainedNetwork, options: EvaluationOptions) -> EvaluationImages:
    """Load the images that a network is evaluated on.

    Raises:
        InputError: the data is missing, its classes are not the checkpoint's, or its own images are not those
            that its run reported; or the network has no classes.
    """
    if not classifier.classes:
        raise InputError("the network has no classes, so nothing to evaluate: it gives features")
    classifier.check_pictures()
    fields = classifier.details.get("data")
    config = DataConfig.from_dict(fields) if fields else None
    if config and options.root:
        config = dataclasses.replace(config, root=options.root)
    return load_evaluation_images(
        options.data,
        config,
        options.root or Path("data"),
        classifier.classes,
        skip_broken=options.skip_broken,
        reported=classifier.details.get("reported"),
    )


def evaluate_on(
    classifier: TrainedNetwork,
    images: EvaluationImages,
    options: EvaluationOptions,
    ranks: Ranks,
    observe: Observer | None = None,
) -> Evaluation:
    """Evaluate a network on images that `images_of` loaded for it.

    Raises:
        InputError: an image is broken.
        NotFinite: weights or logits are NaN or infinite.
    """
    batches = evaluation_batches(
        images.images.to(ranks.device),
        options.batch_size,
        ranks.shard,
        preprocessing=classifier.preprocessing,
        device=ranks.device,
        workers=options.workers,
        crops=options.crops,
    )
    evaluation = evaluate(
        classifier.network(ranks.device),
        batches,
        len(classifier.classes),
        ranks,
        precision=getattr(torch, options.precision),
        observe=observe,
    )
    return dataclasses.replace(evaluation, split=images.split)


def write_evaluation(facts: Mapping[str, Any], folder: Path) -> None:
    """Write evaluation.json.

    Args:
        facts: `Evaluation.to_dict`, with where the numbers come from.
        folder: where it lies; made if it is not there.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    write_json(folder / "evaluation.json", facts)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    num_classes: int,
    ranks: Ranks,
    *,
    precision: torch.dtype = torch.float32,
    channels_last: bool = False,
    observe: Observer | None = None,
) -> Evaluation:
    """Evaluate a network on this rank's batches, and sum the counts of all ranks.

    Args:
        model: images -> logits; its training mode is restored.
        batches: this rank's; images B x C x H x W, or B x crops x C x H x W, whose logits are averaged.
        num_classes: width of the logits.
        ranks: this process's place.
        precision: bfloat16 evaluates under autocast.
        channels_last: convert the images to the channels-last memory format.
        observe: called with the labels, N, and logits, N x classes, of every batch in turn.

    Raises:
        NotFinite: the logits of an image, on any rank, are NaN or infinite.
    """
    was_training = model.training
    model.eval()
    started = time.perf_counter()
    device = ranks.device
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
    # Loss, images with the class in the top 5, images without finite logits.
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch in batches:
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            logits = _logits(model, batch.images, channels_last).float()
        if observe is not None:
            observe(batch.labels, logits)
        guesses = logits.topk(min(_TOP, num_classes), dim=1).indices
        pairs = batch.labels * num_classes + guesses[:, 0]
        confusion += torch.bincount(pairs, minlength=num_classes**2).view_as(confusion)
        sums[0] += cross_entropy(logits, batch.labels, reduction="sum").double()
        sums[1] += (guesses == batch.labels[:, None]).any(dim=1).sum()
        sums[2] += (~finite_rows(logits)).sum()
    model.train(was_training)
    confusion, sums = ranks.sum(confusion), ranks.sum(sums)
    images = int(confusion.sum())
    loss, in_top5, not_finite = sums.tolist()
    if not_finite:
        # Raised after the sum, so that all ranks stop and none waits for another.
        raise no_finite_logits(f"{not_finite:.0f} of {images} images")
    return Evaluation(
        images=images,
        loss=loss / images,
        top1_error=100 * (images - int(confusion.trace())) / images,
        top5_error=100 * (images - in_top5) / images,
        confusion=confusion.tolist(),
        seconds=time.perf_counter() - started,
    )


def _logits(model: nn.Module, images: Tensor, channels_last: bool) -> Tensor:
    crops = images.flatten(end_dim=-4)
    if channels_last:
        crops = crops.to(memory_format=torch.channels_last)
    logits: Tensor = model(crops)
    return logits.view(len(images), -1, logits.shape[1]).mean(dim=1)
