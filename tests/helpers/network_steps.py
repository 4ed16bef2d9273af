"""Networks side by side: the same weights in two executions, a step of each, and how far they differ."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from small_networks import small_config
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from densenets.models.densenet import DenseNet
from densenets.models.densenet_config import DenseNetConfig

Model = TypeVar("Model", bound=nn.Module)

# Both sides add up the same float64 numbers, perhaps in another order: float64's 1e-16 grows over a hundred
# layers to some 1e-12 of each tensor's largest value. A missing or doubled term is far above 1e-8.
ROUNDING = 1e-8

CASES: dict[str, dict[str, Any]] = {
    "bottleneck": {},
    "plain": {"bottleneck": False, "compression": 1.0},
    "signal": {"spatial_dims": 1},
    "plain signal": {"spatial_dims": 1, "bottleneck": False},
    "volume": {"spatial_dims": 3, "in_channels": 1, "block_layers": (2, 2)},
    "plain volume": {"spatial_dims": 3, "bottleneck": False, "block_layers": (2, 2)},
    "large stem": {"stem": "imagenet"},
    "one block of one layer": {"block_layers": (1,)},
}


def case_config(case: str = "bottleneck", **changes: Any) -> DenseNetConfig:
    """Three small blocks, as a case says, with some fields changed."""
    return small_config(**{"block_layers": (3, 2, 3), **CASES[case], **changes})


def case_images(config: DenseNetConfig, seed: int = 0, *, batch: int = 3, times: int = 1) -> Tensor:
    """Images whose sides, odd and no two alike, are taken some times."""
    sides = {1: (61,), 2: (21, 19), 3: (9, 8, 7)}[config.spatial_dims]
    return images(batch, config.in_channels, *[side * times for side in sides], seed=seed)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomize(model: Model) -> Model:
    """Float64, with norms whose scales, shifts and statistics are all their own."""
    generator = torch.Generator().manual_seed(1)
    for module in model.double().modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor, centre in ((module.weight, 1), (module.bias, 0), (module.running_mean, 0)):
                nn.init.normal_(tensor, centre, 0.3, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
    return model


def pair(config: DenseNetConfig, execution: Any) -> tuple[DenseNet, DenseNet]:
    """The same network in the reference execution and in another."""
    reference = randomize(DenseNet(config, "reference", torch.Generator().manual_seed(0)))
    other = DenseNet(config, execution).double()
    other.load_state_dict(reference.state_dict())
    return reference, other


def step(model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
    """Result, all gradients and all buffers of one forward and backward pass, by the model or by `run`."""
    x = x.detach().clone().requires_grad_()
    model.zero_grad(set_to_none=True)
    result = (model if run is None else run)(x)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view(result.shape)
    (result * weights).sum().backward()
    assert x.grad is not None
    gradients = {f"gradient of {name}": p.grad.clone() for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return {"result": result.detach(), "gradient of x": x.grad, **gradients, **buffers}


def assert_equal(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = ROUNDING, *, least: float = 0
) -> None:
    """No value is off by more than `tolerance` times the largest of its tensor, which counts as `least`."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name].double() - value.double()).abs().max().item()
        largest = max(least, value.double().abs().max().item())
        assert error <= tolerance * largest, f"{name} is off by {error}"


def errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """How far each tensor is off as a whole: the norm of its error, relative to its own."""
    assert actual.keys() == expected.keys()
    relative_errors = {}
    for name, value in expected.items():
        size = value.double().norm().item()
        relative_errors[name] = (actual[name].double() - value.double()).norm().item() / size if size else 0.0
    return relative_errors


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """What a forward pass has allocated and not freed while its output lives."""
    output = model(x)  # the first pass also allocates what stays for good
    del output
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = model(x)
    kept = sum(event.self_cpu_memory_usage for event in profiler.key_averages())
    assert output.requires_grad
    return kept
