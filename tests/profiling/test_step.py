"""The measured step: its phases, its memory, and what it is measured on."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from measured_times import given_step, no_step
from small_networks import small_config
from training_runs import small_recipe

from densenets.errors import InputError
from densenets.models.registry import named_config
from densenets.profiling.measured_step import (
    MeasuredStep,
    StepFigures,
    measured_memory,
    measured_step,
    step_figures,
)
from densenets.profiling.step import StepConfig
from densenets.profiling.timed_step import TimedStep, measure_time
from densenets.profiling.worker_jobs import StepJob, StepMemory
from densenets.training.recipes import named_recipe


def small_step(batch: int = 32) -> StepConfig:
    return dataclasses.replace(StepConfig.of_recipe(small_recipe()), batch=batch)


def named_step(network: str, *, channels_last: bool = False) -> StepConfig:
    return StepConfig(network=named_config(network), batch=2, sides=(32, 32), channels_last=channels_last)


def test_a_config_survives_json_whatever_its_network() -> None:
    for name in ("densenet121", "resnet20", "highway-19", "fractalnet-10-9", "nin"):
        config = StepConfig(network=named_config(name), batch=3, sides=(64, 64), device="cpu")
        assert StepConfig.from_dict(config.to_dict()) == config


def test_what_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="batch must be at least 1, got 0"):
        StepConfig(network=small_config(), batch=0, sides=(8, 8))
    with pytest.raises(InputError, match="images must have 2 sides as the network's, got 3"):
        StepConfig(network=small_config(), batch=1, sides=(8, 8, 8))
    with pytest.raises(InputError, match="too small"):
        StepConfig(network=small_config(), batch=1, sides=(1, 1))
    with pytest.raises(InputError, match="no known size"):
        StepConfig.of_recipe(named_recipe("finetune"))


@pytest.mark.slow
def test_a_process_reports_phases_and_memory() -> None:
    result = measured_step(small_step())
    assert isinstance(result, MeasuredStep), result
    assert {"device", "torch", "date"} <= set(result.machine)
    assert result.batch == 32
    assert result.steps == 7
    for seconds in (result.forward_seconds, result.backward_seconds, result.optimizer_seconds):
        assert seconds > 0
    assert result.memory_bytes is not None
    assert 0 < result.memory_bytes < 2**30
    assert result.in_use_bytes is None or 0 < result.in_use_bytes < 2**30
    # Milliseconds an image are the same time as seconds a step.
    milliseconds = step_figures(result).step_ms
    assert milliseconds is not None
    assert milliseconds * 32 / 1000 == pytest.approx(result.seconds)


def test_without_a_step_nothing_is_known_of_it() -> None:
    assert step_figures(None) == StepFigures()
    assert step_figures(no_step("no luck")) == StepFigures(failed="no luck")
    assert step_figures(given_step(memory_bytes=9, in_use_bytes=None)).memory_bytes == 9
    assert step_figures(given_step(memory_bytes=9, in_use_bytes=5)).memory_bytes == 5


def test_a_file_holds_all_of_a_step() -> None:
    step = given_step(machine={"date": "today", "device": "a CPU", "torch": "2"})
    names = list(step.to_dict())
    assert names[:4] == ["forward_seconds", "backward_seconds", "optimizer_seconds", "steps"]
    assert names[4:] == ["batch", "ran", "memory_bytes", "date", "device", "torch", "in_use_bytes"]
    assert MeasuredStep.from_dict(step.to_dict()) == step


@pytest.mark.slow
def test_larger_batches_need_more_memory() -> None:
    small, large = (_in_use(batch) for batch in (64, 1024))
    if small is None or large is None:
        pytest.skip("this system does not tell what is in use")
    # The weights, their gradients and the workspaces stay as they are.
    assert large > 2 * small


def _in_use(batch: int) -> int | None:
    memory = measured_memory(small_step(batch))
    assert isinstance(memory, StepMemory), memory
    return memory.in_use_bytes


def test_the_network_is_that_of_the_data() -> None:
    step = TimedStep(named_step("resnet8", channels_last=True), torch.device("cpu"))
    assert step.model.config.num_classes == 10
    assert step.model.state_dict()["conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    assert StepConfig.of_recipe(small_recipe()).network.in_channels == 1


def test_a_step_moves_the_weights_and_companions_are_trained_too() -> None:
    step = TimedStep(named_step("dsn"), torch.device("cpu"))
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    phases, _ = step()
    assert all(seconds > 0 for seconds in (phases.forward, phases.backward, phases.optimizer))
    after = step.model.state_dict()
    assert not torch.equal(after["companions.conv1.weight"], before["companions.conv1.weight"])


@pytest.mark.slow
def test_steps_that_differ_by_chance_are_averaged_over_more_of_them() -> None:
    for network, steps in (("stochastic-depth-8", 20), ("resnet8", 7)):
        job = StepJob.of_time(named_step(network))
        assert len(measure_time(job.step, job.protocol).steps) == steps
