"""Images, precision and device of measured steps, as options. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from densenets.models.network_input import for_input
from densenets.models.registry import named_config
from densenets.profiling.step import Precision, StepConfig

DenseExecution = Literal["reference", "recompute", "fused", "fused-lean"]  # all that "auto" chooses from
DENSE_EXECUTIONS: tuple[DenseExecution, ...] = get_args(DenseExecution)


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Images, precision and device of training steps that are measured beside each other."""

    input: str = ""
    """Channels and sides, such as 3x64x64; by default the first network's own."""
    batch: int = 16
    """Images of a step."""
    precision: Precision = "float32"
    """bfloat16 computes under autocast; what memory it takes is not predicted."""
    channels_last: bool = False
    """Memory format of weights and images, in all networks."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def step_of(self, model: str) -> StepConfig:
        """The training step of a named network.

        Raises:
            InputError: no network has the name, or it cannot take such a step.
        """
        network, sides = for_input(named_config(model), self.input)
        return StepConfig(
            network=network,
            batch=self.batch,
            sides=sides,
            precision=self.precision,
            channels_last=self.channels_last,
            device=self.device,
        )
