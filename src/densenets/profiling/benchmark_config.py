"""Variants of a network that a benchmark compares: frozen, and checked once. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig
from densenets.models.network_input import for_input
from densenets.models.registry import named_config
from densenets.profiling.step import Mode, Precision, StepConfig
from densenets.profiling.variants import Variant, default_variants, named_variant, refusal
from densenets.profiling.worker_jobs import Protocol, StepJob
from densenets.training.recipe import OptimizerRecipe

_OPTIMIZER = OptimizerRecipe(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Time and memory of a network on this machine, beside torchvision's.

    Raises:
        InputError: a field is out of its range, or the network has no such variant.
    """

    model: str
    """A name of the zoo."""
    input: str = ""
    """Channels and sides, such as 3x64x64, or 1x64x64x64 for volumes; by default the network's own."""
    batch: int = 16
    """Images of a step."""
    mode: Mode = "train"
    """Whole training steps, or forward passes in evaluation mode."""
    precision: Literal["both", "float32", "bfloat16"] = "both"
    """bfloat16 is float32 under autocast; its variants end in -bf16."""
    compile: bool = False
    """Measure torchvision's network under torch.compile too, which can take minutes."""
    variants: tuple[str, ...] = ()
    """Measure these alone, such as torchvision recompute-bf16."""
    steps: int = 7
    """Steps that are measured, at least 5."""
    warmup: int = 5
    """Steps before them; PyTorch's own convolutions have settled after about four."""
    rounds: int = 1
    """Measure all variants so often, in turn, against a machine that is faster now and slower then."""
    threads: int = 0
    """That PyTorch computes with; 0 for its own choice."""
    keep_freed_memory: bool = False
    """Let all variants keep the memory that they free, as our training does."""

    fewest_steps: ClassVar[int] = 5  # below that a median says little
    only_memory: ClassVar[bool] = False  # times are left out

    def __post_init__(self) -> None:
        network, sides = self.network, self.sides
        if self.variants and (self.compile or self.precision != "both"):
            raise InputError(
                "--variants names all that is measured; leave --compile and --precision out, "
                "and name torchvision-compile or variants that end in -bf16"
            )
        limits = (("batch", 1), ("steps", self.fewest_steps), ("warmup", 0), ("rounds", 1), ("threads", 0))
        for field, least in limits:
            if getattr(self, field) < least:
                raise InputError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if self.mode not in ("train", "inference"):
            raise InputError(f"mode must be train or inference, got '{self.mode}'")
        network.check_input((network.in_channels, *sides))
        for variant in self.measured_variants:
            if reason := refusal(network, variant):
                raise InputError(
                    f"variants must be ones that the network has, got '{variant.name}': {reason}"
                )
        if len(set(self.variants)) < len(self.variants):
            raise InputError(f"variants must be named once each, got {' '.join(self.variants)}")

    @property
    def network(self) -> NetworkConfig:
        """The network of the model's name for the input."""
        network, _ = for_input(named_config(self.model), self.input)
        return network

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of an image, in pixels."""
        _, sides = for_input(named_config(self.model), self.input)
        return sides

    @property
    def measured_variants(self) -> tuple[Variant, ...]:
        """The variants that are named, or all that the network has; measured in this order."""
        precisions: tuple[Precision, ...] = (
            ("float32", "bfloat16") if self.precision == "both" else (self.precision,)
        )
        names = self.variants or default_variants(self.network, precisions, compiled=self.compile)
        return tuple(named_variant(name) for name in names)

    def to_dict(self) -> dict[str, Any]:
        """Everything that decides what is measured, as JSON can hold it."""
        return {
            "model": self.model,
            "batch": self.batch,
            "sides": list(self.sides),
            "in_channels": self.network.in_channels,
            "mode": self.mode,
            "variants": [variant.name for variant in self.measured_variants],
            "steps": self.steps,
            "warmup": self.warmup,
            "rounds": self.rounds,
            "threads": self.threads,
            "keep_freed_memory": self.keep_freed_memory,
            "only_memory": self.only_memory,
        }

    def step(self, variant: Variant) -> StepConfig:
        """The step that is measured of a variant."""
        return StepConfig(
            network=self.network,
            batch=self.batch,
            sides=self.sides,
            mode=self.mode,
            optimizer=_OPTIMIZER,
            companion_weight=1.0,
            device="cpu",
            **variant.step_fields,
        )

    def time_job(self, variant: Variant) -> StepJob:
        """The measurement of a variant's time."""
        protocol = Protocol(
            warmup=self.warmup,
            steps=self.steps,
            most_seconds=0.0,
            threads=self.threads,
            keep_freed_memory=self.keep_freed_memory,
        )
        return StepJob(step=self.step(variant), protocol=protocol, quantity="time")

    def memory_job(self, variant: Variant) -> StepJob:
        """The measurement of a variant's memory in use."""
        return StepJob.of_memory(self.step(variant), self.threads)


@dataclass(frozen=True, kw_only=True)
class MemoryBenchmarkConfig(BenchmarkConfig):
    """Memory of a network alone, for which a step is enough."""

    steps: int = 1
    warmup: int = 1

    fewest_steps: ClassVar[int] = 1
    only_memory: ClassVar[bool] = True
