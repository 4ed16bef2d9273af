"""Ranks of torchrun: their devices, sums, broadcasts and barriers. A single process has world size 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from densenets.data.batches import Shard
from densenets.machine import choose_device


@dataclass(frozen=True)
class Ranks:
    """This process among the ranks that run together.

    Attributes:
        shard: rank and world size.
        device: of this rank.
    """

    shard: Shard
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.shard.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are several ranks."""
        return self.shard.world_size > 1

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on every rank."""
        if self.is_distributed:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values

    def broadcast_from_first(self, tensors: Iterator[Tensor]) -> None:
        """Overwrite the tensors in place with those of rank 0."""
        if self.is_distributed:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        if self.is_distributed:
            torch.distributed.barrier()

    @contextlib.contextmanager
    def first_rank_first(self) -> Iterator[None]:
        """A context whose body rank 0 runs before the others do, such as a download."""
        if not self.is_first:
            self.barrier()
        yield
        if self.is_first:
            self.barrier()


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group if torchrun started this process: nccl between GPUs, gloo between CPUs.

    Raises:
        InputError: the device cannot be used.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world_size == 1:
        yield Ranks(Shard(), chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(Shard(torch.distributed.get_rank(), world_size), chosen)
    finally:
        torch.distributed.destroy_process_group()
