"""Running of jobs in subprocesses, which return a result or the reason of their failure. Needs no PyTorch."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, TypeVar

from densenets.schema import read

STDERR_LINES = 40  # last lines of a process' standard error, returned beside the reason

_ERROR_PREFIX = "densenets: "  # of the command line's errors
_ERROR = re.compile(r"[\w.]*(Error|Exception)\b")  # an exception's name in the last line of a stack trace

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class JobFailure:
    """Failure of a process that had a job.

    Attributes:
        reason: in one line.
        stderr: the end of what it printed.
        timed_out: it was killed for it took too long.
    """

    reason: str
    stderr: str
    timed_out: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON holds them."""
        return {"failed": self.reason, "stderr": self.stderr}


def run_job(
    module: str,
    job: dict[str, Any],
    answer: type[Answer],
    *,
    seconds: float | None = None,
    content: bytes = b"",
) -> Answer | JobFailure:
    """Run `python -m module JOB` to its end, and read the JSON on the last line of its standard output.

    Args:
        module: what the process runs. It is not looked for in the current folder, which may be anybody's.
        job: what it is asked, as JSON can hold it.
        answer: the dataclass that it answers with.
        seconds: after which it is killed; None for never.
        content: on its standard input.

    Raises:
        InputError: its answer is none of that type.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, json.dumps(job)],
            input=content,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return JobFailure(reason=f"it took longer than {seconds:g} s", stderr="", timed_out=True)
    errors = done.stderr.decode(errors="replace").splitlines()[-STDERR_LINES:]
    if done.returncode:
        return JobFailure(reason=failure(done.returncode, errors), stderr="\n".join(errors))
    try:
        result = json.loads(done.stdout.decode(errors="replace").splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return JobFailure(reason="the process gave no result", stderr="\n".join(errors))
    return read(answer, result, f"the answer of {module}")


def failure(returncode: int, errors: list[str]) -> str:
    """Why a process failed, in one line, from its exit code and what it printed to standard error."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    lines = [line.strip() for line in errors if line.strip()]
    cli_errors = [line.removeprefix(_ERROR_PREFIX) for line in lines if line.startswith(_ERROR_PREFIX)]
    exceptions = [line for line in lines if _ERROR.match(line)]
    # The command line's own error comes before torchrun's report of it; then the exception at the end of a
    # stack trace; else the last line that is not empty.
    return (cli_errors or exceptions or lines or [f"exit code {returncode}"])[-1]
