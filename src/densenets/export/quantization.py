"""What quantisation is calibrated and judged by: images for the ranges, and accuracy before and after."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densenets.checkpoint import Checkpoint
from densenets.data.batches import Shard
from densenets.data.load import EvaluationImages
from densenets.distributed import Ranks
from densenets.engines.description import Quantization
from densenets.engines.exported_network import ExportedNetwork
from densenets.errors import InputError
from densenets.evaluation import evaluate_on, images_of
from densenets.evaluation_options import EvaluationOptions
from densenets.export.export_config import ExportConfig
from densenets.export.verification import SampleImages, sample_images

CALIBRATION_IMAGES = 300  # at most


@dataclass(frozen=True)
class QuantizationData:
    """Images of a quantisation.

    Attributes:
        calibration: that the ranges of activations are from.
        evaluation: with labels, on which accuracy is measured.
        options: of that evaluation.
    """

    calibration: SampleImages
    evaluation: EvaluationImages
    options: EvaluationOptions


def quantization_data(checkpoint: Checkpoint, config: ExportConfig) -> QuantizationData:
    """Load the images that a config names.

    Raises:
        InputError: there are none.
    """
    options = EvaluationOptions(data=config.evaluate, root=config.root)
    try:
        evaluation = images_of(checkpoint, options)
    except InputError as error:
        raise InputError(
            f"the accuracy in int8 is measured on labelled images, and there are none ({error}); name them "
            "with --evaluate DATA, a set's name or a folder of class folders"
        ) from error
    return QuantizationData(sample_images(checkpoint, config.int8, CALIBRATION_IMAGES), evaluation, options)


def measure_loss(before: ExportedNetwork, after: ExportedNetwork, data: QuantizationData) -> Quantization:
    """Top-1 accuracy of a network in float32 and in int8, in the engine."""
    alone = Ranks(Shard(), torch.device("cpu"))
    evaluated = [evaluate_on(network, data.evaluation, data.options, alone) for network in (before, after)]
    return Quantization(
        calibration_images=len(data.calibration.pixels),
        images=evaluated[0].images,
        source=data.evaluation.source,
        top1_before=100 - evaluated[0].top1_error,
        top1_after=100 - evaluated[1].top1_error,
    )


def check_loss(cost: Quantization, most_loss: float) -> None:
    """Check that 8 bits cost no more accuracy than they may.

    Raises:
        InputError: they do.
    """
    if cost.loss > most_loss:
        raise InputError(
            f"nothing was kept: int8 has {cost.top1_after:.2f}% top-1 accuracy on {cost.images} images of "
            f"{cost.source}, float32 {cost.top1_before:.2f}%; a loss of {cost.loss:.2f} points is more than "
            f"--most-loss {most_loss:g}"
        )
