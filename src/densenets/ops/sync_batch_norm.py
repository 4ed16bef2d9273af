"""Batch normalisation over the global batch of all ranks, on a CPU too.

PyTorch's own SyncBatchNorm runs on accelerators only, where it is taken; this one runs under gloo. So a
network trained by many processes is the one that a single process trains on the same global batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm as local_batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation whose batch is that of all ranks; N x C x *sides, N may differ by rank."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected N x C x *sides, got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise, and update the running statistics by those of the global batch."""
        if not self.training:
            return super().forward(input)
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return batch_norm(input, self, self.running_mean, self.running_var, self.momentum)


def synchronize(model: nn.Module, device: torch.device) -> None:
    """Replace every batch normalisation of a model, in place, by one over the batch of all ranks.

    Keys, parameters and buffers stay those of the model.

    Args:
        model: the model.
        device: that it is trained on. On a CPU `SyncBatchNorm` takes the place of each, which PyTorch's own
            does not run on; on an accelerator PyTorch's own.
    """
    kind = SyncBatchNorm if device.type == "cpu" else nn.SyncBatchNorm
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm) and not is_synchronized(child):
            synchronized = kind(child.num_features, child.eps, child.momentum)
            synchronized.weight, synchronized.bias = child.weight, child.bias
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(synchronized, buffer, getattr(child, buffer))
            synchronized.train(child.training)
            setattr(model, name, synchronized)
        else:
            synchronize(child, device)


def is_synchronized(norm: nn.Module) -> bool:
    """Whether a batch normalisation is over the batch of several ranks, by our class or by PyTorch's."""
    return isinstance(norm, (SyncBatchNorm, nn.SyncBatchNorm))


def batch_norm(
    x: Tensor,
    norm: _BatchNorm,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
) -> Tensor:
    """Training-mode normalisation of x, N x C x *sides, that updates the buffers it is given.

    Over the batch of all ranks where `norm` is synchronised, over this process's batch elsewhere.
    """
    if not is_synchronized(norm):
        return local_batch_norm(
            x, running_mean, running_var, norm.weight, norm.bias, True, momentum, norm.eps
        )
    output, mean, var = global_batch_norm(x, norm.weight, norm.bias, norm.eps)
    assert running_mean is not None
    assert running_var is not None
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(var.to(running_var.dtype), momentum)
    return output


def global_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x, N x C x *sides, over the batch of all ranks.

    Returns:
        The normalised x, and the global batch's mean and unbiased variance, both C.
    """
    output, mean, var = _GlobalBatchNorm.apply(x, weight, bias, eps)
    return output, mean, var


class _GlobalBatchNorm(torch.autograd.Function):
    """The normalised x, and the mean and unbiased variance of the global batch (both C)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        dims = [d for d in range(x.dim()) if d != 1]
        local_var, local_mean = torch.var_mean(_wide(x), dim=dims, correction=0)
        count = torch.full_like(local_mean, x.numel() // x.shape[1])
        mean, var, total = combine(torch.stack([local_mean, local_var, count]))
        inverse_std = torch.rsqrt(var + eps)
        ctx.save_for_backward(x, weight, mean, inverse_std, total)
        ctx.dims = dims
        centred = _wide(x) - _per_channel(mean, x)
        output = centred * _per_channel(inverse_std * weight, x) + _per_channel(bias, x)
        unbiased = var * (total / (total - 1).clamp(min=1))
        ctx.mark_non_differentiable(mean, unbiased)
        return output.to(x.dtype), mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, total = ctx.saved_tensors
        gradient = _wide(gradients[0])
        normalised = (_wide(x) - _per_channel(mean, x)) * _per_channel(inverse_std, x)
        weight_gradient = (gradient * normalised).sum(dim=ctx.dims)
        bias_gradient = gradient.sum(dim=ctx.dims)
        # The two corrections of batch normalisation's gradient are means over the global batch.
        sums = torch.stack([bias_gradient, weight_gradient])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        mean_gradient, mean_projection = sums / total
        x_gradient = gradient - _per_channel(mean_gradient, x) - normalised * _per_channel(mean_projection, x)
        x_gradient = (x_gradient * _per_channel(inverse_std * weight, x)).to(x.dtype)
        return x_gradient, weight_gradient, bias_gradient, None


def combine(local: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and count over all ranks from each rank's own, 3 x C (Chan et al. 1979)."""
    ranks = [local]
    if torch.distributed.is_initialized():
        ranks = [torch.empty_like(local) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(ranks, local)
    means, variances, counts = torch.stack(ranks, dim=1)  # each ranks x C
    total = counts.sum(dim=0)
    mean = (means * counts).sum(dim=0) / total
    var = ((variances + (means - mean) ** 2) * counts).sum(dim=0) / total
    return mean, var, total


def _wide(x: Tensor) -> Tensor:
    """x in at least float32: sums over a batch of bfloat16 would lose most of their digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Reshape C to 1 x C x 1 ... 1, to broadcast along x."""
    return values.view(1, -1, *[1] * (x.dim() - 2))
