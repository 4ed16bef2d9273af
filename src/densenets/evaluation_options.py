"""Options of an evaluation: the images, the crops, the precision. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What a checkpoint is evaluated on, and how.

    Attributes:
        data: a named set or a folder, of class folders or of test/ or val/ with such; "" for the images that
            its run reported.
        root: where a named set lies; None for where it lay in training.
        crops: 1, or of folders 10, whose logits are averaged.
        precision: "bfloat16" evaluates under autocast.
        batch_size: images of a batch, on each rank.
        workers: processes that decode files.
        skip_broken: leave out images that cannot be decoded, naming them.
    """

    data: str = ""
    root: Path | None = None
    crops: Literal[1, 10] = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = 100
    workers: int = 2
    skip_broken: bool = False
