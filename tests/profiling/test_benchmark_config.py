"""What can be measured, and the one line that says why something cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from densenets.errors import InputError
from densenets.models.registry import named_config
from densenets.ops.execution import EXECUTIONS
from densenets.profiling.benchmark_config import BenchmarkConfig, MemoryBenchmarkConfig
from densenets.profiling.variants import default_variants, named_variant, torchvision_refusal
from densenets.profiling.worker_jobs import StepJob


def config(**changes: Any) -> BenchmarkConfig:
    fields = {"model": "densenet-bc-40-12", "batch": 2, "input": "3x8x8", "variants": ("reference",)}
    return BenchmarkConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "densenet-bc-41-12"}, "depth must be .*, got 41"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"steps": 4}, "steps must be at least 5, got 4"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"threads": -1}, "threads must be at least 0, got -1"),
        ({"mode": "test"}, "mode must be train or inference, got 'test'"),
        ({"input": "3x3x8"}, "input 3x3x8 is too small"),
        ({"input": "3x8x8x8x8"}, "--input 3x8x8x8x8 is no shape"),
        ({"input": "0x8x8"}, "--input 0x8x8 is no shape"),
        ({"variants": ("recompute", "recompute")}, "variants must be named once each"),
        ({"variants": ("recomputed",)}, "unknown variant 'recomputed'; did you mean recompute"),
        ({"variants": ("auto",)}, "unknown variant 'auto'"),
        ({"variants": ("torchvision",), "input": "3x8x8x8"}, "got 'torchvision': .* not 3"),
        ({"variants": ("torchvision-bf16",), "model": "densenet-40-12"}, "always has a bottleneck"),
        ({"variants": ("torchvision",), "model": "densenet-b-40-12"}, "has compression 0.5, not 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], message: str) -> None:
    message = message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=message):
        config(**changes)


def test_few_steps_are_enough_for_memory() -> None:
    assert MemoryBenchmarkConfig(model="densenet-bc-40-12").steps == 1
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        MemoryBenchmarkConfig(model="densenet-bc-40-12", steps=0)


def test_the_input_makes_the_network() -> None:
    network = config(input="1x8x8x8").network
    assert (network.spatial_dims, network.in_channels) == (3, 1)


def test_jobs_survive_json() -> None:
    whole = config(mode="inference", variants=("torchvision", "recompute-bf16"), threads=1)
    for variant in whole.measured_variants:
        for job in (whole.time_job(variant), whole.memory_job(variant)):
            assert StepJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job


def test_a_name_says_all_about_its_variant() -> None:
    variant = named_variant("torchvision-channels-last-bf16")
    assert (variant.base, variant.precision) == ("torchvision-channels-last", "bfloat16")
    assert variant.name == "torchvision-channels-last-bf16"
    assert variant.is_torchvision
    step = config(variants=(variant.name,)).step(variant)
    assert step.channels_last
    assert not step.compiled
    assert config().step(named_variant("recompute")).execution == "recompute"


def test_all_executions_are_measured_beside_torchvision() -> None:
    names = default_variants(named_config("densenet121"), ("float32", "bfloat16"), compiled=False)
    assert {name for name in EXECUTIONS if name != "auto"} <= set(names)
    assert {"torchvision", "torchvision-memory-efficient-bf16"} <= set(names)
    assert not any("compile" in name or "auto" in name for name in names)
    compiled = default_variants(named_config("densenet121"), ("float32",), compiled=True)
    assert set(compiled) - set(names) == {"torchvision-compile"}


def test_without_torchvision_ours_are_measured() -> None:
    network = named_config("densenet-40-12")
    assert "bottleneck" in torchvision_refusal(network)
    names = default_variants(network, ("float32",), compiled=True)
    assert names == tuple(name for name in EXECUTIONS if name != "auto")


def test_options_measure_both_precisions_unless_told_otherwise() -> None:
    both = BenchmarkConfig(model="densenet121").measured_variants
    one = BenchmarkConfig(model="densenet121", precision="bfloat16").measured_variants
    assert both[-len(one) :] == one
    assert all(variant.name.endswith("-bf16") for variant in one)


def test_variants_are_named_alone() -> None:
    with pytest.raises(InputError, match="leave --compile and --precision out"):
        BenchmarkConfig(model="densenet121", variants=("reference",), compile=True)
