"""The process in which a training step is measured: `python -m densenets.profiling.step_worker JOB`.

A job is JSON: {"step": a StepConfig, "in_use": whether the memory in use is measured instead of time}. The
result is the last line on standard output, as JSON. The images are random.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from densenets.files import json_text
from densenets.machine import choose_device, environment, keep_freed_memory
from densenets.models.create import build_network
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network import Network, all_logits
from densenets.ops.dense_block import explain_execution
from densenets.profiling.peak_memory import PeakMemory, give_back_freed_memory
from densenets.profiling.step import StepConfig
from densenets.training.train_step import build_optimizer

_WARMUP, _STEPS, _ENOUGH_SECONDS, _FEWEST_STEPS = 3, 7, 20.0, 3
_DRAWN_STEPS = 20  # of networks whose steps differ, as layers are left out by chance


def main() -> None:
    """Do the job of the command line."""
    job = json.loads(sys.argv[1])
    config = StepConfig.from_dict(job["step"])
    result = measure_in_use(config) if job["in_use"] else measure(config)
    sys.stdout.write(json_text(result) + "\n")


def measure(config: StepConfig) -> dict[str, Any]:
    """What a training step takes, its forward pass, backward pass and optimiser apart.

    Returns:
        forward_seconds, backward_seconds and optimizer_seconds of a step: medians, or means where the steps
        of a network differ by chance; steps, how many were measured; batch; ran, the execution and why;
        memory_bytes at the peak (on a CPU resident, above the process with its libraries); and the machine.
    """
    device = choose_device(config.device)
    torch.manual_seed(0)
    if device.type == "cpu":
        keep_freed_memory()
    memory = _Memory(device)
    step = Step(config, device)
    steps = _DRAWN_STEPS if step.model.config.skips_layers else _STEPS
    phases: list[tuple[float, float, float]] = []
    # The first steps are slow, but of a network that takes minutes three must do.
    while len(phases) < steps + _WARMUP and (
        len(phases) < _FEWEST_STEPS or sum(map(sum, phases)) < _ENOUGH_SECONDS
    ):
        phases.append(step())
    settled = phases[min(_WARMUP, len(phases) - _FEWEST_STEPS) :]
    average = statistics.fmean if step.model.config.skips_layers else statistics.median
    forward, backward, optimizer = (average(seconds) for seconds in zip(*settled, strict=True))
    return {
        "forward_seconds": forward,
        "backward_seconds": backward,
        "optimizer_seconds": optimizer,
        "steps": len(settled),
        "batch": config.batch,
        "ran": _what_runs(config, device),
        "memory_bytes": memory.read(),
        **environment(device),
    }


def _what_runs(config: StepConfig, device: torch.device) -> str:
    if not isinstance(config.network, DenseNetConfig):
        return "reference"
    return str(explain_execution(config.execution, device, torch.float32))


def measure_in_use(config: StepConfig) -> dict[str, Any]:
    """The peak of some steps without what the allocator holds in reserve, for a process of its own.

    Returns:
        in_use_bytes; None where that cannot be told.
    """
    device = choose_device(config.device)
    torch.manual_seed(0)
    if device.type == "cpu" and not give_back_freed_memory():
        return {"in_use_bytes": None}
    memory = _Memory(device)
    step = Step(config, device)
    for _ in range(_DRAWN_STEPS if step.model.config.skips_layers else 2):
        step()
    return {"in_use_bytes": memory.read()}


class _Memory:
    """The peak memory from now on: of a GPU its allocator's, of a CPU the process's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _load_libraries()
            self._process = PeakMemory()

    def read(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return self._process.read()


def _load_libraries() -> None:
    """Thread pools and lazily loaded libraries are not part of a step's memory."""
    layer = torch.nn.Conv2d(8, 8, 3)
    cross_entropy(layer(torch.randn(2, 8, 8, 8)).mean(dim=(2, 3)), torch.tensor([0, 1])).backward()


class Step:
    """A training step on random images: seconds of forward pass, backward pass and optimiser."""

    def __init__(self, config: StepConfig, device: torch.device) -> None:
        network = config.network
        model = build_network(network, config.execution).to(device)
        images = torch.randn(config.batch, network.in_channels, *config.sides, device=device)
        if config.channels_last:
            layout = torch.channels_last_3d if network.spatial_dims == 3 else torch.channels_last
            model = model.to(memory_format=layout)
            images = images.to(memory_format=layout)
        self.model: Network = model
        self._images = images
        self._labels = torch.randint(network.num_classes, (config.batch,), device=device)
        self._optimizer = build_optimizer(model, config.optimizer)
        self._precision = getattr(torch, config.precision)
        self._companion_weight = config.companion_weight
        self._device = device

    def __call__(self) -> tuple[float, float, float]:
        """Take the step."""
        forward, loss = self._timed(self._loss)
        backward, _ = self._timed(loss.backward)
        optimizer, _ = self._timed(self._optimizer.step)
        self._optimizer.zero_grad(set_to_none=True)
        return forward, backward, optimizer

    def _loss(self) -> Tensor:
        with torch.autocast(self._device.type, self._precision, self._precision != torch.float32):
            logits, *companions = all_logits(self.model(self._images))
            loss = cross_entropy(logits.float(), self._labels)
            for companion in companions:
                loss = loss + self._companion_weight * cross_entropy(companion.float(), self._labels)
        return loss

    def _timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        began = time.perf_counter()
        result = work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
