"""Runs of a plan, one process after the other; what fails is marked, the others go on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from densenets.errors import Interrupted
from densenets.files import write_json
from densenets.progress import progress_bar
from densenets.records import RunStep, has_result
from densenets.reproduce.plan import PlannedRun, steps_of
from densenets.schema import parse_json, read
from densenets.subprocess_jobs import STDERR_LINES, failure
from densenets.training.stop_requests import NEW_GROUP, StopRequest, request_stop, stop_requests

_POLL_SECONDS = 0.5  # between two polls of a process
_END_OF_METRICS = 4096  # bytes, of which a line has some hundred


def do_runs(runs: Sequence[PlannedRun], seconds: Mapping[Path, float]) -> None:
    """Do the runs that are not done, each in a process of its own.

    Args:
        runs: in order.
        seconds: that each is expected to take, by its folder; for the progress bar.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the run that was under way has saved its state.
    """
    todo = [run for run in runs if run.state != "done"]
    with progress_bar(counts=False) as bar, stop_requests() as request:
        task = bar.add_task("", total=sum(seconds[run.folder] for run in todo))
        finished = 0.0
        for number, run in enumerate(todo, start=1):
            bar.update(task, description=f"run {number}/{len(todo)}: {run.folder.name}")
            for share in _train(run, request):
                bar.update(task, completed=finished + share * seconds[run.folder])
            finished += seconds[run.folder]
            bar.update(task, completed=finished)
            outcome = f"failed: {run.failure}" if run.state == "failed" else run.state
            bar.console.print(f"{run.folder.name}: {outcome}", markup=False, highlight=False, soft_wrap=True)


def _train(run: PlannedRun, request: StopRequest) -> Iterator[float]:
    """Train a run, and evaluate it by ten crops where its table asks for that; yields its progress."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    run.failure_file.unlink(missing_ok=True)
    commands = [] if has_result(run.folder) else [run.command()]
    if len(run.entry.columns) > 1:
        commands.append(run.ten_crop_command())
    steps = steps_of(run.recipe)
    for command in commands:
        printed_before = run.log_file.stat().st_size if run.log_file.exists() else 0
        with _started(command, run.log_file) as process:
            while process.poll() is None:
                if request.signal_number:
                    request_stop(process)
                    process.wait()
                    raise Interrupted(
                        f"stopped in {run.folder.name}; the same command goes on", request.signal_number
                    )
                yield _run_step(run) / steps
                time.sleep(_POLL_SECONDS)
        if process.returncode:
            printed = run.log_file.read_bytes()[printed_before:].decode(errors="replace").splitlines()
            write_json(
                run.failure_file,
                {
                    "reason": failure(process.returncode, printed),
                    "command": command,
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "printed": printed[-STDERR_LINES:],
                },
            )
            return


@contextlib.contextmanager
def _started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that prints into a file, and that does not outlive the body."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which passes it on once.
            start_new_session=True,
            creationflags=NEW_GROUP,
            env={**os.environ, "COLUMNS": "200"},
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _run_step(run: PlannedRun) -> int:
    """Steps that a run has done, as the last whole line of its metrics tells."""
    file = run.folder / "metrics.jsonl"
    if not file.exists():
        return 0
    with file.open("rb") as metrics:
        # The end is enough: the file of a long run has megabytes, and is read again and again.
        metrics.seek(max(0, file.stat().st_size - _END_OF_METRICS))
        *whole, _ = metrics.read().split(b"\n")
    if not whole:
        return 0
    what = f"the last line of {file} is none of a run's metrics"
    return read(RunStep, parse_json(whole[-1], what, non_finite=True), what)["run_step"]
