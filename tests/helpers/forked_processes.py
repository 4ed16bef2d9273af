"""Processes of one thread that start at once: copies of a server that has loaded the libraries.

A fresh interpreter spends seconds on loading PyTorch, which a test of what a process does need not pay for.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

RANKS = 2
_LOADED = ["torch._dynamo", "sklearn.datasets", "matplotlib.figure", "densenets.training.loop"]


class ForkedCommand:
    """A command of `densenets` in a process of its own, which signals reach as they reach any."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        self.arguments = arguments
        self.process: BaseProcess = _context().Process(
            target=_command, args=(arguments, self._printed, dict(environment or {}))
        )
        self.process.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Its end: exit code, negative where a signal ended it, and what it printed."""
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        stdout, stderr = (file.read_text() for file in self._printed)
        self._folder.cleanup()
        return subprocess.CompletedProcess(self.arguments, code, stdout, stderr)


def run_command(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in as many processes as torchrun would start; the first one's result."""
    if processes == 1:
        return ForkedCommand(*arguments).wait()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = [
        ForkedCommand(
            *arguments,
            environment={
                **meeting,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
            },
        )
        for rank in range(processes)
    ]
    done = [command.wait() for command in started]
    return next((one for one in done if one.returncode), done[0])


def run_ranks(work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What `work`, a function of a module, returns for each rank under gloo, in processes of one thread."""
    _context()
    torch.multiprocessing.start_processes(
        _rank, args=(work, str(folder)), nprocs=RANKS, start_method="forkserver"
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def _context() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    return context


def _command(arguments: Sequence[str], printed: Sequence[Path], environment: Mapping[str, str]) -> None:
    from densenets.cli import main

    for stream, file in zip((sys.stdout, sys.stderr), printed, strict=True):
        with file.open("wb") as target:
            os.dup2(target.fileno(), stream.fileno())
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["densenets", *arguments]
    main.main()


def _rank(rank: int, work: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
