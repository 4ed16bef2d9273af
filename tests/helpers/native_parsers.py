"""Native parsers in the process of the tests, which is quicker than a process of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from densenets.errors import InputError
from densenets.schema import read
from densenets.subprocess_jobs import JobFailure
from densenets.weights.formats import native_files
from densenets.weights.formats.native_content import NativeJob
from densenets.weights.formats.native_worker import do_job


def run_here(_: str, job: dict[str, Any], answer: type[Any], *, seconds: float) -> Any:
    """What `run_job` returns, without its limits."""
    assert seconds > 0
    try:
        result = do_job(read(NativeJob, job, "not a job"))
    except InputError as error:
        return JobFailure(reason=str(error), stderr="")
    return read(answer, json.loads(json.dumps(result)), "the answer")


def parse_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on files are parsed in this process."""
    monkeypatch.setattr(native_files, "run_job", run_here)
