from __future__ import annotations

import hashlib
import http.server
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from densenets.data.datasets import load_dataset
from densenets.errors import InputError

if TYPE_CHECKING:
    from conftest import TinyCifar

ARCHIVE = "cifar-10-python.tar.gz"


@dataclass
class Server:
    """What the handler below serves, and what it was asked for."""

    url: str = ""
    archive: bytes = b""
    breaks_off: bool = False
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(tiny_cifar10: TinyCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real HTTP server on this machine, with the tiny CIFAR-10 as the archive that torchvision fetches."""
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        archive.add(tiny_cifar10.root / CIFAR10.base_folder, CIFAR10.base_folder)
    state = Server(archive=(tmp_path / ARCHIVE).read_bytes())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            if self.path != f"/{ARCHIVE}":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.archive)))
            self.end_headers()
            self.wfile.write(state.archive[:100] if state.breaks_off else state.archive)

        def log_message(self, *arguments: object) -> None:
            pass

    class QuietServer(http.server.ThreadingHTTPServer):
        def shutdown_request(self, request: socket.socket) -> None:
            if state.breaks_off:
                # Closing without lingering, and without a shutdown before, resets the connection.
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_request(request)
            else:
                super().shutdown_request(request)

        def handle_error(self, *arguments: object) -> None:
            pass  # torchvision asks once only to see whether it is redirected, and does not read the answer

    with QuietServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(CIFAR10, "url", f"{state.url}/{ARCHIVE}")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(state.archive).hexdigest())
        try:
            yield state
        finally:
            running.shutdown()
            thread.join()


def refused(root: Path) -> str:
    """The message of the error that the download ends with."""
    with pytest.raises(InputError) as caught:
        load_dataset("cifar10", root, download=True)
    if isinstance(caught.value.__cause__, HTTPError):
        caught.value.__cause__.close()  # it holds the server's answer, which would be collected unclosed
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_set_is_fetched_checked_and_loaded(server: Server, tiny_cifar10: TinyCifar, tmp_path: Path) -> None:
    data = load_dataset("cifar10", tmp_path / "root", download=True)
    assert np.array_equal(data.training.pixels, tiny_cifar10.pixels[:20])
    assert len(data.test) == 6
    assert set(server.asked) == {f"/{ARCHIVE}"}


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    load_dataset("cifar10", tmp_path / "root", download=True)
    server.asked.clear()
    load_dataset("cifar10", tmp_path / "root", download=True)
    load_dataset("cifar10", tmp_path / "root", download=False)
    assert server.asked == []


def test_without_download_nothing_is_fetched(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fetch it with --data\.download"):
        load_dataset("cifar10", tmp_path / "root", download=False)
    assert server.asked == []


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    server.archive = server.archive[:-1] + bytes([server.archive[-1] ^ 1])
    assert "damaged; remove it and try again" in refused(tmp_path / "root")


def test_a_download_that_was_refused_can_be_tried_again(server: Server, tmp_path: Path) -> None:
    whole = server.archive
    server.archive = whole[:500]
    refused(tmp_path / "root")
    server.archive = whole
    assert len(load_dataset("cifar10", tmp_path / "root", download=True).training) == 20


def test_a_file_that_the_server_does_not_have_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "url", f"{server.url}/gone.tar.gz")
    assert "could not download cifar10" in refused(tmp_path / "root")


def test_a_server_that_does_not_answer_is_told(
    tiny_cifar10: TinyCifar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{port}/{ARCHIVE}")
    assert "could not download cifar10" in refused(tmp_path / "root")


def test_a_connection_that_breaks_off_is_told(server: Server, tmp_path: Path) -> None:
    server.breaks_off = True
    assert "cifar10" in refused(tmp_path / "root")
