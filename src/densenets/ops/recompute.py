"""The dense block with activation checkpointing (Pleiss et al. 2017, arXiv 1707.06990).

The concatenation, BN and ReLU in front of a layer's first convolution are cheap to compute and dear to
keep. They are not stored but made again in the backward pass: memory grows linearly with L.

What is checkpointed is a pure function. The batch's statistics leave it as results and are put into the
running statistics once, outside; a second forward pass cannot count them twice, whatever runs it (eager
mode, torch.compile, DistributedDataParallel).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.checkpoint import checkpoint

from densenets.ops.layers import DenseLayerModules, update_running_statistics
from densenets.ops.sync_batch_norm import batch_norm


def recomputed_dense_block(x: Tensor, layers: Sequence[DenseLayerModules]) -> Tensor:
    """N x C0 x *sides -> N x (C0 + L k) x *sides; the values of `reference_dense_block`."""
    features = [x]
    for layer in layers:
        convolved = recomputed_norm_relu_conv(features, layer.norm1, layer.conv1)
        features.append(layer.after_first_convolution(convolved))
    return torch.cat(features, dim=1)


def recomputed_norm_relu_conv(features: Sequence[Tensor], norm: _BatchNorm, conv: _ConvNd) -> Tensor:
    """conv(relu(norm(cat(features)))), of which the backward pass keeps only `features`.

    Args:
        features: maps of N x C_i x *sides.
        norm: batch normalisation over the sum of the C_i.
        conv: the convolution behind it.
    """
    if norm.training:
        return _training(features, norm, conv)

    def evaluation(*features: Tensor) -> Tensor:
        return conv(relu(norm(torch.cat(features, dim=1))))

    if not torch.is_grad_enabled():
        return evaluation(*features)
    result: Tensor = checkpoint(evaluation, *features, use_reentrant=False, preserve_rng_state=False)
    return result


def _training(features: Sequence[Tensor], norm: _BatchNorm, conv: _ConvNd) -> Tensor:
    running_mean, running_var = norm.running_mean, norm.running_var
    assert running_mean is not None
    assert running_var is not None

    def pure(*features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # With momentum 1 batch_norm leaves the batch's own statistics in the buffers it is given.
        mean, var = torch.zeros_like(running_mean), torch.zeros_like(running_var)
        normalised = batch_norm(torch.cat(features, dim=1), norm, mean, var, momentum=1.0)
        return conv(relu(normalised)), mean, var

    if torch.is_grad_enabled():
        convolved, mean, var = checkpoint(pure, *features, use_reentrant=False, preserve_rng_state=False)
    else:
        convolved, mean, var = pure(*features)
    update_running_statistics(norm, mean, var)
    return convolved
