"""A server of one file on this machine, which fails as it is told to."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from local_server import local_server


@dataclass
class ServedFile:
    """A file, and what a server does to those who ask for it.

    Attributes:
        content: of the file.
        tag: the ETag, "" for none.
        knows_parts: whether a Range is answered with 206.
        answers: status of the first answers; 200 or 206 afterwards.
        cuts: bytes after which the first answers end; all are sent afterwards.
        stalls: whether an answer that is cut waits instead of ending.
        excess: bytes that are sent behind the file's, and announced in an answer of 206.
        chunked: whether answers come in chunks, of which no Content-Length says how many.
        announces: whether the length is told.
        requests: headers of the requests, as they came.
        url: of the file, while it is served.
    """

    content: bytes
    tag: str = '"first"'
    knows_parts: bool = True
    answers: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    stalls: bool = False
    excess: bytes = b""
    chunked: bool = False
    announces: bool = True
    requests: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def served(file: ServedFile) -> Iterator[ServedFile]:
    """Serve a file; whatever waits ends with the context."""
    ended = threading.Event()
    with local_server(_handler(file, ended), ended.set) as url:
        file.url = f"{url}/file.bin"
        yield file


def _handler(file: ServedFile, ended: threading.Event) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file.requests.append(dict(self.headers))
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", file.url)
                self.end_headers()
                return
            status = file.answers.pop(0) if file.answers else 200
            start = self._start() if status == 200 else 0
            body = file.content[start:] if status == 200 else b"no"
            if start:
                status, body = 206, body + file.excess
            self.send_response(status)
            if start:
                size = len(file.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if file.tag:
                self.send_header("ETag", file.tag)
            if file.announces:
                self.send_header("Content-Length", str(len(body)))
            if file.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body, file.excess, b""))
            self.end_headers()
            cut = file.cuts.pop(0) if file.cuts and status < 300 else None
            self.wfile.write(body[:cut])
            if cut is not None and file.stalls:
                ended.wait(20)

        def _start(self) -> int:
            """Where the part that was asked for begins, if it is one of this file's version."""
            asked = re.fullmatch("bytes=([0-9]+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") == file.tag
            return int(asked[1]) if asked and same and file.knows_parts else 0

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
