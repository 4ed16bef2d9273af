"""A hundred steps of training, fused beside the reference, on batches of which the last is odd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from network_steps import assert_equal, case_config, images, pair
from torch import Tensor
from torch.nn.functional import cross_entropy

from densenets.models.densenet import DenseNet
from densenets.ops.backends.backend import CPP
from densenets.ops.sync_batch_norm import synchronize

STEPS = 100
pytestmark = pytest.mark.skipif(
    not CPP.availability().available, reason="the kernels in PyTorch's operations are slow to train"
)


def train(model: DenseNet, dtype: torch.dtype) -> Tensor:
    """The losses of all steps, on 19 images in batches of 8; a class shows in its images' brightness."""
    every_label = torch.arange(19).remainder(5)
    every_image = images(19, 3, 18, 17) + every_label.view(-1, 1, 1, 1)
    data, labels = every_image.to(dtype).split(8), every_label.split(8)
    optimizer = torch.optim.SGD(model.to(dtype).parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = cross_entropy(model(data[step % len(data)]), labels[step % len(data)])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().double())
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("case", "execution", "synchronized"),
    [("bottleneck", "fused", True), ("plain", "fused-lean", False), ("large stem", "fused", False)],
)
@pytest.mark.slow
def test_losses_stay_together(case: str, execution: Any, synchronized: bool):
    config = case_config(case, block_layers=(2, 1))
    reference, fused = pair(config, execution)
    if synchronized:
        synchronize(fused, torch.device("cpu"))
    expected, actual = train(reference, torch.float64), train(fused, torch.float64)
    assert expected[-1] < expected[0] / 2, "nothing was learnt"
    # 1e-16 at every step, which training itself enlarges.
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    assert_equal(dict(fused.state_dict()), dict(reference.state_dict()), 1e-9)
    # In float32 a rounding that carries one pixel across ReLU's zero changes a step by that pixel's share of
    # the gradient, and the steps after it by more: where it happens, to the reference as well, losses are off
    # by up to 1e-4, elsewhere by 1e-7.
    reference, fused = pair(config, execution)
    for model in (reference, fused):
        error = (train(model, torch.float32) - expected).abs().mean().item()
        assert error < 5e-4, f"off by {error:.2g}"
