"""Ctrl-C and SIGTERM as requests to save the run and stop at the next step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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
    """A context that turns SIGINT and SIGTERM into a request; afterwards the former handlers are back."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Python delivers signals to the main thread only; elsewhere the caller's handlers stay.
        yield request
        return
    before = {s: signal.signal(s, request.receive) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
