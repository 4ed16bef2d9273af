"""Variants of a network that a benchmark compares: frozen, and checked once. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from densenets.errors import InputError
from densenets.models.network_config import NetworkConfig
from densenets.models.registry import named_config
from densenets.profiling.step import Mode, Precision, StepConfig
from densenets.profiling.variants import Variant, default_variants, named_variant, refusal
from densenets.profiling.worker_jobs import Protocol, StepJob
from densenets.training.recipe import OptimizerRecipe

_OPTIMIZER = OptimizerRecipe(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0)
_FEWEST_STEPS = 5  # below that a median says little


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """A network, the batch that it is run on, and the ways to run it that are compared.

    Attributes:
        model: a name of the zoo, or densenet[-b|-c|-bc]-DEPTH-GROWTH.
        batch: images of a step.
        sides: of an image, in pixels; their number is the network's spatial dimensions.
        in_channels: of an image.
        mode: "train" measures whole training steps, "inference" forward passes in evaluation mode.
        variants: names of `named_variant`, measured in this order.
        steps: that are measured, at least 5 unless only memory is wanted.
        warmup: steps before them, which are not timed (their memory counts).
        rounds: how often all variants are measured, one after the other, so that a machine that is faster
            now and slower then is so for all of them; the steps of all rounds count together.
        threads: that PyTorch computes with; 0 for its own choice.
        keep_freed_memory: whether processes keep what they free (`machine.keep_freed_memory`), all alike.
        only_memory: whether times are left out, for which few steps are enough.

    Raises:
        InputError: a field is out of its range, or the network has no such variant.
    """

    model: str
    batch: int
    sides: tuple[int, ...]
    in_channels: int = 3
    mode: Mode = "train"
    variants: tuple[str, ...]
    steps: int = 7
    warmup: int = 5
    rounds: int = 1
    threads: int = 0
    keep_freed_memory: bool = False
    only_memory: bool = False

    def __post_init__(self) -> None:
        fewest = 1 if self.only_memory else _FEWEST_STEPS
        for field, least in (("batch", 1), ("steps", fewest), ("warmup", 0), ("rounds", 1), ("threads", 0)):
            if getattr(self, field) < least:
                raise InputError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if self.mode not in ("train", "inference"):
            raise InputError(f"mode must be train or inference, got '{self.mode}'")
        self.network.check_input((self.in_channels, *self.sides))
        if not self.variants:
            raise InputError("variants must be at least 1, got none")
        for name in self.variants:
            if reason := refusal(self.network, named_variant(name)):
                raise InputError(f"variants must be ones that the network has, got '{name}': {reason}")
        if len(set(self.variants)) < len(self.variants):
            raise InputError(f"variants must be named once each, got {' '.join(self.variants)}")

    @property
    def network(self) -> NetworkConfig:
        """The network of the model's name for these images."""
        return dataclasses.replace(
            named_config(self.model), in_channels=self.in_channels, spatial_dims=len(self.sides)
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        fields = dataclasses.asdict(self)
        return {**fields, "sides": list(self.sides), "variants": list(self.variants)}

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


@dataclass(frozen=True)
class BenchmarkOptions:
    """Time and memory of a network on this machine, beside torchvision's."""

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
    json: bool = False
    """Print JSON."""
    out: Path | None = None
    """File for the JSON."""

    def to_config(self, shape: list[int]) -> BenchmarkConfig:
        """What is to be measured, for images of `shape` (channels, *sides).

        Raises:
            InputError: the options contradict each other or cannot be.
        """
        channels, *sides = shape
        if self.variants and (self.compile or self.precision != "both"):
            raise InputError(
                "--variants names all that is measured; leave --compile and --precision out, "
                "and name torchvision-compile or variants that end in -bf16"
            )
        network = dataclasses.replace(named_config(self.model), in_channels=channels, spatial_dims=len(sides))
        precisions: tuple[Precision, ...] = (
            ("float32", "bfloat16") if self.precision == "both" else (self.precision,)
        )
        return BenchmarkConfig(
            model=self.model,
            batch=self.batch,
            sides=tuple(sides),
            in_channels=channels,
            mode=self.mode,
            variants=self.variants or default_variants(network, precisions, compiled=self.compile),
            steps=self.steps,
            warmup=self.warmup,
            rounds=self.rounds,
            threads=self.threads,
            keep_freed_memory=self.keep_freed_memory,
        )
