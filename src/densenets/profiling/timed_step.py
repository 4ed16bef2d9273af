"""A step that is timed in its phases, and the memory that it takes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from densenets.machine import choose_device, environment, keep_freed_memory
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.network import all_logits
from densenets.models.registry import named_config
from densenets.ops.dense_block import explain_execution
from densenets.profiling.networks import random_batch, step_network
from densenets.profiling.peak_memory import PeakMemory, give_back_freed_memory
from densenets.profiling.step import StepConfig
from densenets.profiling.worker_jobs import Protocol, StepMemory, StepPhases, StepTimes
from densenets.training.train_step import build_optimizer

_FEWEST_STEPS = 3  # of a network that takes minutes
_SMALLEST = "densenet-bc-10-4"

T = TypeVar("T")


def measure_time(config: StepConfig, protocol: Protocol) -> StepTimes:
    """Time steps, and take the peak of the memory; for a process that does nothing else before or after."""
    device = choose_device(config.device)
    torch.manual_seed(0)
    kept = protocol.keep_freed_memory and device.type == "cpu" and keep_freed_memory()
    if protocol.threads:
        torch.set_num_threads(protocol.threads)
    _load_libraries(config, device)
    memory = _DeviceMemory(device)
    step = TimedStep(config, device)
    taken: list[StepPhases] = []
    losses: list[Tensor] = []
    while len(taken) < protocol.warmup + protocol.steps and not _is_enough(taken, protocol.most_seconds):
        if config.compiled and len(taken) == protocol.warmup:
            # What the compiler needed while it compiled is no part of a step.
            memory.restart_peak()
        phases, loss = step()
        taken.append(phases)
        losses.append(loss)
    # The first steps are slow, but where few were taken they must do.
    warmup = min(protocol.warmup, len(taken) - min(protocol.steps, _FEWEST_STEPS))
    return StepTimes(
        warmup=tuple(taken[:warmup]),
        steps=tuple(taken[warmup:]),
        peak_bytes=memory.read(),
        memory_measured_by=memory.measured_by,
        loss=losses[0].item(),
        kept_freed_memory=kept,
        ran=_what_runs(config, device),
        machine=environment(device),
    )


def measure_memory(config: StepConfig, protocol: Protocol) -> StepMemory:
    """Take the peak of steps without what the allocator holds in reserve; for a process of its own, too."""
    device = choose_device(config.device)
    torch.manual_seed(0)
    if device.type == "cpu" and not give_back_freed_memory():
        return StepMemory(in_use_bytes=None)
    if protocol.threads:
        torch.set_num_threads(protocol.threads)
    _load_libraries(config, device)
    memory = _DeviceMemory(device)
    step = TimedStep(config, device)
    for _ in range(protocol.warmup):
        step()
    if config.compiled:
        memory.restart_peak()
    for _ in range(protocol.steps):
        step()
    return StepMemory(in_use_bytes=None if memory.is_lower_bound else memory.read())


class TimedStep:
    """A step on random images; a call takes it, and returns its seconds and the loss."""

    def __init__(self, config: StepConfig, device: torch.device) -> None:
        self.model = step_network(config, device)
        self._images, self._labels = random_batch(config, device)
        self._optimizer = build_optimizer(self.model, config.optimizer)
        self._precision = getattr(torch, config.precision)
        self._companion_weight = config.companion_weight
        self._device = device
        self._call = self._train if config.mode == "train" else self._infer
        self.model.train(config.mode == "train")

    def __call__(self) -> tuple[StepPhases, Tensor]:
        """Take the step."""
        return self._call()

    def _train(self) -> tuple[StepPhases, Tensor]:
        began = time.perf_counter()
        self._optimizer.zero_grad(set_to_none=True)
        forward, loss = self._timed(self._loss)
        backward, _ = self._timed(loss.backward)
        optimizer, _ = self._timed(self._optimizer.step)
        whole = time.perf_counter() - began
        return StepPhases(step=whole, forward=forward, backward=backward, optimizer=optimizer), loss.detach()

    @torch.inference_mode()
    def _infer(self) -> tuple[StepPhases, Tensor]:
        forward, loss = self._timed(self._loss)
        return StepPhases(step=forward, forward=forward), loss

    def _loss(self) -> Tensor:
        with torch.autocast(self._device.type, self._precision, self._precision != torch.float32):
            # A network with companion classifiers trains them too.
            logits, *companions = all_logits(self.model(self._images))
            loss = cross_entropy(logits.float(), self._labels)
            for companion in companions:
                loss = loss + self._companion_weight * cross_entropy(companion.float(), self._labels)
        return loss

    def _timed(self, work: Callable[[], T]) -> tuple[float, T]:
        began = time.perf_counter()
        result = work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began, result


class _DeviceMemory:
    """The peak memory from now on: of a GPU its allocator's, of a CPU the process's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = None if device.type == "cuda" else PeakMemory()
        self.restart_peak()

    @property
    def measured_by(self) -> str:
        return self._process.measured_by if self._process else "allocator"

    @property
    def is_lower_bound(self) -> bool:
        return self.measured_by == "ru_maxrss"

    def restart_peak(self) -> None:
        """Forget the peak so far."""
        if self._process:
            self._process.restart_peak()
        else:
            torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> int | None:
        """Bytes of the peak; None where the system does not tell."""
        return self._process.read() if self._process else torch.cuda.max_memory_allocated(self._device)


def _is_enough(taken: list[StepPhases], most_seconds: float) -> bool:
    seconds = sum(step.step for step in taken)
    return bool(most_seconds) and len(taken) >= _FEWEST_STEPS and seconds >= most_seconds


def _load_libraries(config: StepConfig, device: torch.device) -> None:
    """Take a step of the smallest network: thread pools, libraries and lazy imports are then there."""
    network = dataclasses.replace(
        named_config(_SMALLEST), in_channels=config.network.in_channels, spatial_dims=len(config.sides)
    )
    smallest = dataclasses.replace(config, network=network, batch=2, sides=(8,) * len(config.sides))
    TimedStep(smallest, device)()


def _what_runs(config: StepConfig, device: torch.device) -> str:
    if config.implementation != "densenets":
        return config.implementation
    if not isinstance(config.network, DenseNetConfig):
        return "reference"
    return str(explain_execution(config.execution, device, torch.float32))
