"""Recomputation of running statistics for evaluation, without dropout and drop-path.

The running statistics of training are of maps whose variance dropout has raised (Li et al. 2019, arXiv
1801.05134), or of the columns of a FractalNet that drop-path has left; evaluation has neither. (PyTorch's own
`update_bn` leaves dropout and drop-path on.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from densenets.data.batches import Batch
from densenets.models.network import Network


@torch.no_grad()
def recompute_statistics(model: Network, batches: Iterable[Batch]) -> None:
    """Replace all running statistics by the means over some batches; no weight changes.

    Dropout and drop-path are off, as in evaluation. Afterwards the model is in evaluation mode.

    Args:
        model: any network; one with synchronised batch normalisation needs as many batches on every rank.
        batches: training images; none leaves the statistics as they are.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    try:
        images = 0
        for batch in batches:
            images += batch.global_count
            for norm in norms:
                norm.momentum = batch.global_count / images  # so that it is the mean of all batches so far
            model.run_evaluated_paths(batch.images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


@torch.no_grad()
def smallest_maps(model: Network, image: Tensor) -> int:
    """Number of pixels of the smallest maps that a batch normalisation of a network reads.

    Args:
        model: any network; its training mode is restored.
        image: 1 x C x *sides.
    """
    pixels = [image[0, 0].numel()]

    def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        pixels.append(inputs[0][0, 0].numel())

    was_training = model.training
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    handles = [norm.register_forward_pre_hook(record) for norm in norms]
    try:
        model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return min(pixels)
