"""What PyTorch's operations do beside what every implementation does; that is in `test_unit`."""

from __future__ import annotations

import pytest
import torch
from unit_checks import (
    check_accumulation,
    check_backward,
    check_batch_statistics,
    check_forward,
    poisoned,
    poisoned_gradient,
)
from units import Shape, make

from densenets.ops.backends.eager import EagerKernels


# Accelerators have no bfloat16 in every case; the native kernels have no float16.
@pytest.mark.parametrize("check", [check_forward, check_backward, check_accumulation, check_batch_statistics])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(3, (7, 5), 17, 5, kernel=3),
        Shape(3, (7, 5), 48, 17),
        Shape(2, (8, 6), 37, 17, pool=True),
        Shape(2, (3, 5, 7), 5, 12, kernel=3, drop=True),
        Shape(3, (13,), 17, 12, kernel=3),
    ],
    ids=str,
)
def test_float16(check, shape: Shape):
    check(EagerKernels(), shape, torch.float16)


@pytest.mark.parametrize("recording", [False, True])
def test_no_graph_is_left_behind(recording: bool):
    """The backward pass of a unit needs autograd for its convolution, whether its caller records or not."""
    shape = Shape(3, (7, 5), 17, 5, kernel=3)
    example, kernels = make(shape, torch.float32), EagerKernels()
    out, x_gradient = poisoned(105, 5, torch.float32), poisoned_gradient(example.unit)
    with torch.set_grad_enabled(recording):
        moments = kernels.forward(example.unit, out, statistics=True)
        grads = kernels.backward(
            example.unit, example.gradient, None, x_gradient, accumulate=False, sums=None
        )
    assert moments is not None
    for tensor in (out, x_gradient, *moments, *grads):
        assert not tensor.requires_grad
