"""A server on this machine, for as long as a context lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def local_server(
    handler: Callable[..., BaseHTTPRequestHandler], before_end: Callable[[], object] = lambda: None
) -> Iterator[str]:
    """Serve by a handler; gives the server's address. `before_end` releases whatever handlers wait for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        before_end()
        server.shutdown()
        server.server_close()
        thread.join()
