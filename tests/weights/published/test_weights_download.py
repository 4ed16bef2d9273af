"""Downloads from a server on this machine, whole and disturbed."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from file_server import ServedFile, served

from densenets.errors import InputError
from densenets.weights.published import download as module
from densenets.weights.published.download import download, download_url
from densenets.weights.published.manifest import PUBLISHED, Checksum

CONTENT = np.random.default_rng(0).bytes(600_000)  # of several chunks
DIGITS = hashlib.sha256(CONTENT).hexdigest()
ENTRY = dataclasses.replace(
    PUBLISHED["torchvision/densenet121"],
    file_name="weights.pth",
    checksum=Checksum(kind="sha256", digits=DIGITS[:8]),
    mebibytes=0.572,
)

Serve = Callable[..., ServedFile]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves a file until the test ends."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as servers:
        yield lambda content=CONTENT, **how: servers.enter_context(served(ServedFile(content, **how)))


def fetch(file: ServedFile, folder: Path, *, timeout: float = 20.0, **changes: Any) -> Path:
    entry = dataclasses.replace(ENTRY, url=changes.pop("url", file.url), **changes)
    return download(entry, folder, timeout=timeout, pause=0)


def test_a_file_is_fetched_once(serve: Serve, tmp_path: Path):
    file, folder = serve(), tmp_path / "new"
    for _ in range(2):
        path = fetch(file, folder)
        assert path == folder / "weights.pth"
        assert path.read_bytes() == CONTENT
    assert [request["User-Agent"].partition("/")[0] for request in file.requests] == ["densenets"]
    assert list(folder.iterdir()) == [path]


def test_an_answer_may_come_in_chunks(serve: Serve, tmp_path: Path):
    assert fetch(serve(chunked=True), tmp_path).read_bytes() == CONTENT


def test_redirections_are_followed(serve: Serve, tmp_path: Path):
    file = serve()
    assert fetch(file, tmp_path, url=file.url.replace("file.bin", "moved")).read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_ended(serve: Serve, tmp_path: Path):
    file = serve(cuts=[300_000, 100_000])
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert [request.get("Range") for request in file.requests] == [None, "bytes=300000-", "bytes=400000-"]


@pytest.mark.parametrize("how", [{"knows_parts": False}, {"tag": ""}, {"tag": 'W/"weak"'}], ids=str)
def test_a_server_that_resumes_nothing_is_asked_again_for_all(
    serve: Serve, tmp_path: Path, how: dict[str, Any]
):
    file = serve(cuts=[300_000], **how)
    assert fetch(file, tmp_path).read_bytes() == CONTENT
    assert len(file.requests) == 2


def test_parts_of_two_versions_are_not_joined(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = serve(content=b"x" * len(CONTENT), cuts=[300_000])

    def replace(seconds: float) -> None:
        file.content, file.tag = CONTENT, '"second"'

    monkeypatch.setattr(module.time, "sleep", replace)
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(serve: Serve, tmp_path: Path):
    file = serve(answers=[503, 429])
    assert fetch(file, tmp_path).read_bytes() == CONTENT


def test_a_stalled_connection_is_given_up_and_begun_anew(serve: Serve, tmp_path: Path):
    file = serve(cuts=[300_000], stalls=True)
    assert fetch(file, tmp_path, timeout=0.5).read_bytes() == CONTENT
    assert file.requests[1]["Range"] == "bytes=300000-"


@pytest.mark.parametrize(
    ("how", "changes", "message"),
    [
        ({"answers": [404]}, {}, "cannot be fetched: the server answers 404 Not Found$"),
        ({"answers": [503] * 4}, {}, "answers 503 Service Unavailable; try again, or bring the file"),
        ({"cuts": [0, 9, 9, 9]}, {}, "connection ended after 27 of 600,000 bytes; try again"),
        (
            {"cuts": [9] * 4, "stalls": True},
            {"timeout": 0.1},
            "the server does not answer in time; try again, or bring the file there: .*weights.pth$",
        ),
        (
            {"content": CONTENT[::-1]},
            {},
            f"is not torchvision/densenet121 as published: its sha256 is [0-9a-f]{{64}}, the published one "
            f"begins {DIGITS[:8]}; nothing was kept",
        ),
        (
            {},
            {"checksum": Checksum(kind="md5", digits=32 * "0")},
            f"its md5 is {hashlib.md5(CONTENT).hexdigest()}, the published one is {32 * '0'}",
        ),
        ({}, {"mebibytes": 0.5}, "has 600,000 bytes, the published file 0.5 MiB; it is another one"),
        ({"content": CONTENT[:500_000]}, {}, "has 500,000 bytes, the published file 0.572 MiB"),
        ({"cuts": [300_000], "excess": b"more"}, {}, "file.bin had 600,000 bytes, and now has 600,004"),
        ({"chunked": True, "excess": b"more"}, {}, "more bytes than the 600,000 that it announced"),
        ({"announces": False}, {}, "does not say how large the file is"),
    ],
)
def test_what_fails_leaves_nothing_behind(
    serve: Serve, tmp_path: Path, how: dict[str, Any], changes: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        fetch(serve(**how), tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_answer_is_not_asked_for_again(serve: Serve, tmp_path: Path):
    file = serve(answers=[404])
    with pytest.raises(InputError):
        fetch(file, tmp_path)
    assert len(file.requests) == 1


def test_without_a_network_one_line_is_told(serve: Serve, tmp_path: Path):
    with served(ServedFile(CONTENT)) as gone:
        pass
    with pytest.raises(InputError, match="cannot be fetched: Connection refused; try again"):
        fetch(gone, tmp_path)


def test_a_file_of_no_stated_size_has_a_limit_all_the_same(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MOST_BYTES", 500_000)
    with pytest.raises(InputError, match="600,000 bytes; a file of weights has at most 500,000"):
        fetch(serve(), tmp_path, mebibytes=None, checksum=None)


def test_a_disk_without_room_is_found_out_before(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=599_999))
    with pytest.raises(InputError, match=r"600,000 bytes, and .* has room for 599,999; free some space"):
        fetch(serve(), tmp_path)


def test_a_broken_file_of_the_name_is_neither_used_nor_replaced(serve: Serve, tmp_path: Path):
    file, path = serve(), tmp_path / "weights.pth"
    path.write_bytes(b"broken")
    with pytest.raises(
        InputError, match=r"weights.pth is broken or not torchvision/densenet121: .*delete it$"
    ):
        fetch(file, tmp_path)
    assert file.requests == []
    assert path.read_bytes() == b"broken"


def test_an_encrypted_connection_is_not_left():
    request = urllib.request.Request("https://one.example/file")
    follow = module._Redirects().redirect_request
    with pytest.raises(
        InputError, match=r"https://one.example/file leads to http://two.example, which is not"
    ):
        follow(request, BytesIO(), 302, "Found", HTTPMessage(), "http://two.example")
    assert follow(request, BytesIO(), 302, "Found", HTTPMessage(), "https://two.example") is not None


HUB = PUBLISHED["timm/densenet121.ra_in1k"]


@pytest.mark.parametrize("endpoint", ["http://mirror.example:80", "http://mirror.example:80/"])
def test_hugging_faces_files_come_from_its_clients_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert download_url(HUB) == HUB.url
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert download_url(ENTRY) == ENTRY.url
    path = "timm/densenet121.ra_in1k/resolve/main/model.safetensors"
    assert download_url(HUB) == f"http://mirror.example:80/{path}"
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(InputError, match=r"HF_ENDPOINT must be an address such as https://huggingface.co"):
        download_url(HUB)
