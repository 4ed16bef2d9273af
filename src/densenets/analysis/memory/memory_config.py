"""Depths, batches and executions of which memory is measured. Needs no PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from densenets.errors import InputError
from densenets.models.densenet_config import DenseNetConfig
from densenets.profiling.step import StepConfig
from densenets.profiling.step_settings import DENSE_EXECUTIONS, DenseExecution, StepSettings

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|KB|MB|GB|B)", re.IGNORECASE)
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True, kw_only=True)
class MemoryConfig(StepSettings):
    """Peak training memory of a DenseNet against depth and batch, measured in every execution.

    Raises:
        InputError: a list is empty or not ascending, or the network has no dense blocks to scale.
    """

    model: str
    """A name of the zoo."""
    batches: tuple[int, ...] = ()
    """Batches of the whole network; by default a quarter, a half and the whole of --batch."""
    scales: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Shares of the dense layers that the networks of other depths have."""
    executions: tuple[DenseExecution, ...] = DENSE_EXECUTIONS
    """How the dense blocks run."""
    memory: str = ""
    """Find the largest batch that fits in so much, such as 8GiB."""

    def __post_init__(self) -> None:
        network = self.step.network
        _ = self.memory_bytes
        if not isinstance(network, DenseNetConfig):
            raise InputError(
                f"{self.model} is a {network.title}; memory is measured against the depth of dense "
                "blocks, so name a DenseNet"
            )
        if self.batch < 2:
            raise InputError(f"batch must be at least 2, since half is measured too, got {self.batch}")
        for name, values in (("scales", self.scales), ("batches", self.batch_sizes)):
            if list(values) != sorted(set(values)) or not values or values[0] <= 0:
                raise InputError(f"{name} must be ascending numbers above 0, got {values}")
        if self.scales[-1] > 4:
            raise InputError(f"scales must be at most 4, got {self.scales}")
        if not self.executions or not set(self.executions) <= set(DENSE_EXECUTIONS):
            given = " ".join(self.executions)
            raise InputError(f"executions must be of {', '.join(DENSE_EXECUTIONS)}, got '{given}'")

    @property
    def step(self) -> StepConfig:
        """A training step of the whole network.

        At each depth its batch and half of it are measured, whose difference is what an image takes, without
        what does not grow with the batch.
        """
        return self.step_of(self.model)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batches of the whole network, ascending."""
        return self.batches or tuple(sorted({max(1, self.batch // 4), max(1, self.batch // 2), self.batch}))

    @property
    def memory_bytes(self) -> int:
        """Bytes that the largest batch has to fit in; 0 asks for none."""
        return read_bytes(self.memory)


def read_bytes(text: str) -> int:
    """Bytes of a text such as 8GiB or 11 GB; 0 of an empty one.

    Raises:
        InputError: it is no size.
    """
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--memory {text} is no size; a number and a unit are needed, such as 8GiB or 11GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
