"""Ctrl-C and SIGTERM as requests to save the run and stop at the next step; receiving and sending them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

if sys.platform == "win32":
    # There SIGTERM ends a process at once; a process group of its own can be sent Ctrl-Break.
    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
    _REQUEST, NEW_GROUP = signal.CTRL_BREAK_EVENT, subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _SIGNALS = (signal.SIGINT, signal.SIGTERM)
    _REQUEST, NEW_GROUP = signal.SIGTERM, 0


class StopRequest:
    """Whether the process has been asked to stop.

    Attributes:
        signal_number: the signal received, 0 if none was.
    """

    def __init__(self) -> None:
        self.signal_number = 0

    def receive(self, signal_number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Record the request; a second signal ends the process at once, as by default."""
        self.signal_number = signal_number
        signal.signal(
            signal_number,
            signal.default_int_handler if signal_number == signal.SIGINT else signal.SIG_DFL,
        )


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """A context that turns SIGINT and SIGTERM into a request; afterwards the former handlers are back.

    On Windows Ctrl-Break is a request too.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only; elsewhere the caller's handlers stay.
        yield request
        return
    before = {s: signal.signal(s, request.receive) for s in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def request_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to save its run and stop; on Windows it was started with the flags `NEW_GROUP`."""
    process.send_signal(_REQUEST)
