"""Two ranks under gloo, each of which saves what it finds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

RANKS = 2


def run_ranks(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What `work`, a function of a module, returns for each rank, in processes of one thread."""
    # One server loads PyTorch, and the ranks are its copies: half of the time would be spent on loading.
    multiprocessing.set_forkserver_preload(["torch", "densenets.models.densenet"])
    torch.multiprocessing.start_processes(
        _rank, args=(work, str(folder)), nprocs=RANKS, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def _rank(rank: int, work: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
