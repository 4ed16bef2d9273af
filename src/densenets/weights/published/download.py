"""Download of published weights: only when asked for, bounded, resumed, and checked while it is written.

The file is written aside and renamed when it is whole and right, so nothing half or wrong is left behind.
Needs no PyTorch.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any, cast

from densenets.errors import InputError
from densenets.files import write_atomically
from densenets.names import printable
from densenets.progress import progress_bar
from densenets.weights.published.caches import check_file, new_hash, wrong_checksum
from densenets.weights.published.manifest import HUGGING_FACE, PublishedWeights

MOST_BYTES = 2**30  # of a file of weights; the largest that states its size has 110 MiB
_SIZE_TOLERANCE = 0.1  # of a stated size, which may be in MB where MiB are meant, 5% less
_CHUNK = 2**18  # bytes
_ESTIMATE_OVER = 30.0  # seconds
_BUSY = {408, 425, 429, 500, 502, 503, 504}  # answers of a server that may answer otherwise a moment later


def download(
    entry: PublishedWeights, folder: Path, *, timeout: float = 30.0, attempts: int = 4, pause: float = 1.0
) -> Path:
    """Fetch the file of published weights into a folder, unless it is there already, and check it.

    Args:
        entry: the weights.
        folder: for the file, which gets the entry's `file_name`.
        timeout: seconds to wait for a connection and for the next bytes.
        attempts: how often it is begun or resumed before it is given up.
        pause: seconds before the second attempt; twice as many before each further one.

    Raises:
        InputError: the network or the server fails, the file is not what was published, the disk is full, or
            a file of this name is there that has another checksum.
    """
    path = folder / entry.file_name
    if path.exists():
        check_file(path, entry)
        return path

    def write(file: IO[bytes]) -> None:
        transfer = _Transfer(entry, path, file, timeout)
        for attempt in range(attempts):
            if attempt:
                time.sleep(pause * 2 ** (attempt - 1))
            try:
                transfer.run()
            except _TransientFailure as error:
                reason = error
                continue
            transfer.check()
            return
        raise InputError(
            f"{transfer.url} cannot be fetched: {reason}; try again, or bring the file there: {path}"
        ) from reason

    write_atomically(path, write)
    return path


def download_url(entry: PublishedWeights) -> str:
    """Where the file is fetched from: its URL; of files at Hugging Face at HF_ENDPOINT, where that is set.

    Raises:
        InputError: HF_ENDPOINT is no address of the web.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not (endpoint and entry.hub_repository):
        return entry.url
    if not re.match("https?://.", endpoint):
        raise InputError(f"HF_ENDPOINT must be an address such as {HUGGING_FACE}, got {endpoint}")
    return endpoint + entry.url.removeprefix(HUGGING_FACE)


class _TransientFailure(Exception):  # noqa: N818 - not the end: the transfer may go on
    """The network or the server failed in a way that may pass."""


class _Transfer:
    """A file on its way: what has been received, how much there is, and the checksum so far."""

    def __init__(self, entry: PublishedWeights, path: Path, file: IO[bytes], timeout: float) -> None:
        self.url = download_url(entry)
        self._entry, self._path, self._file, self._timeout = entry, path, file, timeout
        self._opener = urllib.request.build_opener(_Redirects)
        self._validator = ""  # tells whether the server's file is still the one that was begun
        self._received, self._total = 0, 0  # bytes
        self._hash = new_hash("sha256")

    def run(self) -> None:
        """Receive what is missing.

        Raises:
            _TransientFailure: the network or the server failed, which may pass.
            InputError: it cannot be had, or is not as large as was published.
        """
        with self._open() as response:
            self._go_on_or_restart(response)
            total = self._received + self._announced(response)
            if self._received and total != self._total:
                raise InputError(f"{self.url} had {self._total:,} bytes, and now has {total:,}")
            self._total = total
            self._check_size(total)
            self._receive(response, total)

    def check(self) -> None:
        """Compare the checksum of what was received.

        Raises:
            InputError: it is not the published one.
        """
        if self._entry.checksum and not self._entry.checksum.fits(digits := self._hash.hexdigest()):
            what = f"{self.url} is not {self._entry.name} as published"
            raise wrong_checksum(what, digits, self._entry, "nothing was kept; try another network")

    def _restart(self) -> None:
        self._received, self._total = 0, 0
        self._hash = new_hash(self._entry.checksum.kind if self._entry.checksum else "sha256")
        self._file.seek(0)
        self._file.truncate()

    def _open(self) -> HTTPResponse:
        from densenets import __version__

        headers = {"User-Agent": f"densenets/{__version__}", "Accept-Encoding": "identity"}
        if self._received and self._validator:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._validator}
        request = urllib.request.Request(self.url, headers=headers)
        try:
            return cast(HTTPResponse, self._opener.open(request, timeout=self._timeout))
        except urllib.error.HTTPError as error:
            error.close()
            answer = f"the server answers {error.code} {error.reason}"
            if error.code in _BUSY:
                raise _TransientFailure(answer) from error
            raise InputError(f"{self.url} cannot be fetched: {answer}") from error
        except (OSError, HTTPException) as error:
            raise _TransientFailure(_reason(error)) from error

    def _go_on_or_restart(self, response: HTTPResponse) -> None:
        if response.status != 206:
            self._restart()  # the server knows no parts, or has another file by now
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self._received}-"):
            raise InputError(f"{self.url} answers with another part of the file than it was asked for")

    def _announced(self, response: HTTPResponse) -> int:
        """Bytes that the answer has."""
        self._validator = _validator(response.headers)
        length = response.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,15}", length) or response.headers.get("Content-Encoding"):
            raise InputError(f"{self.url} does not say how large the file is; fetch it by other means")
        return int(length)

    def _check_size(self, total: int) -> None:
        """Refuse a file of another size than was published, or too large for weights or for the disk."""
        size = f"{self.url} has {total:,} bytes"
        stated = self._entry.mebibytes
        if stated is not None and abs(total / 2**20 / stated - 1) > _SIZE_TOLERANCE:
            raise InputError(f"{size}, the published file {stated:g} MiB; it is another one")
        if not 0 < total <= MOST_BYTES:
            raise InputError(f"{size}; a file of weights has at most {MOST_BYTES:,}")
        free = shutil.disk_usage(self._path.parent).free
        if total - self._received > free:
            raise InputError(f"{size}, and {self._path.parent} has room for {free:,}; free some space there")

    def _receive(self, response: HTTPResponse, total: int) -> None:
        with progress_bar(counts=False, estimate_over=_ESTIMATE_OVER) as bar:
            name = printable(f"{self._path.name}, {total / 2**20:.1f} MiB")
            task = bar.add_task(name, total=total, completed=self._received)
            while chunk := self._read(response):
                # An answer in chunks ends where it likes.
                if self._received + len(chunk) > total:
                    raise InputError(f"{self.url} has more bytes than the {total:,} that it announced")
                self._file.write(chunk)
                self._hash.update(chunk)
                self._received += len(chunk)
                bar.update(task, completed=self._received)
        if self._received < total:
            raise _TransientFailure(f"the connection ended after {self._received:,} of {total:,} bytes")

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read1(_CHUNK)
        except (OSError, HTTPException) as error:
            raise _TransientFailure(_reason(error)) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but none from an encrypted connection to one that is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.startswith("https:"):
            raise InputError(f"{req.full_url} leads to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _validator(headers: Any) -> str:
    """What tells a version of a file from others, byte by byte: a strong ETag, or its date."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server does not answer in time"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
