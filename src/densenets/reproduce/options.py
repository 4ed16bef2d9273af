"""Options of a reproduction: frozen, and checked once. Needs no PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from densenets.errors import InputError, unknown_name

Scale = Literal["cpu", "gpu", "paper"]
Recipes = Literal["own", "densenet"]

TARGETS = ("table2", "table3", "fig3", "fig4")
_SHARD = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class DataPlace:
    """Where the images are."""

    root: Path = Path("data")
    """Where the data lies; of imagenet the folder that holds train/ and val/."""
    download: bool = False
    """Fetch the data if it is not there."""


@dataclass(frozen=True)
class ReproduceOptions:
    """A table or figure of the paper, run by run: the paper's figures and ours in separate columns."""

    target: str
    """table2, table3, fig3 or fig4."""
    scale: Scale = "cpu"
    """cpu: small networks on 12,800 images, an hour of two cores; gpu: a tenth of the epochs; paper: all."""
    seeds: int = 2
    """Runs of each network, which differ in initial weights, order of images and augmentation."""
    recipes: Recipes = "own"
    """Train the baselines by their own papers' recipes, or all by DenseNet's."""
    data: DataPlace = field(default_factory=DataPlace)
    """Where the images are."""
    out: Path | None = None
    """Folder of all runs, the table and the figure; by default runs/TARGET-SCALE."""
    plan: bool = False
    """Show the runs and what they cost, and start none."""
    shard: str = "1/1"
    """Do the i-th of n parts of the runs, such as 2/3, on this machine."""
    processes: int = 1
    """Devices of this machine that train each run together, through torchrun."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    json: bool = False
    """Print JSON."""

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise unknown_name("target", self.target, TARGETS)
        for name, known in (("scale", Scale), ("recipes", Recipes)):
            if getattr(self, name) not in get_args(known):
                raise unknown_name(name, getattr(self, name), get_args(known))
        for name in ("seeds", "processes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        _ = self.shard_place

    @property
    def folder(self) -> Path:
        """Folder of all runs, the table and the figure."""
        return self.out or Path("runs") / f"{self.target}-{self.scale}"

    @property
    def shard_place(self) -> tuple[int, int]:
        """The part of the runs that this machine does, counted from 0, and the number of parts.

        Raises:
            InputError: the shard is no part of a whole.
        """
        match = _SHARD.fullmatch(self.shard)
        part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= part <= parts:
            raise InputError(f"shard must be i/n with i from 1 to n, such as 2/3, got '{self.shard}'")
        return part - 1, parts
