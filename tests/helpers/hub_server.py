"""A server that speaks as much of the Hugging Face Hub as one push and one fetch need, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import yaml
from local_server import local_server

COMMIT = "0" * 39 + "1"


@dataclass
class FakeHub:
    """What was pushed.

    Attributes:
        files: repository -> name -> content.
        cards: metadata of the model cards that were to be checked.
        refuses: status of all answers; 0 where they are as they should be.
        agents: User-Agent of every request.
        url: of the server.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: list[dict[str, Any]] = field(default_factory=list)
    refuses: int = 0
    agents: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve an empty hub; whoever is logged in is called "me"."""
    hub = FakeHub()
    with local_server(partial(_Handler, hub)) as url:
        hub.url = url
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *arguments: Any) -> None:
        self.hub = hub  # before the request is answered, which the base class does
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._is_refused():
            return
        if self.path == "/api/repos/create":
            name = f"me/{json.loads(body)['name']}"
            self.hub.files.setdefault(name, {})
            self._answer({"url": f"{self.hub.url}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            card = json.loads(body)["content"]
            self.hub.cards.append(yaml.safe_load(card.split("---")[1]))
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
            self._answer({"files": modes})
        else:
            self._commit([json.loads(line) for line in body.splitlines()])

    def do_HEAD(self) -> None:
        self._file(send=False)

    def do_GET(self) -> None:
        self._file(send=True)

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in lines:
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.hub.files[repository][line["value"]["path"]] = content
        self._answer({"commitUrl": f"{self.hub.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})

    def _file(self, *, send: bool) -> None:
        if self._is_refused():
            return
        repository, _, place = self.path.removeprefix("/").partition("/resolve/")
        files = self.hub.files.get(repository)
        content = (files or {}).get(place.partition("/")[2])
        if files is None or content is None:
            self._answer({}, 404, {"X-Error-Code": "RepoNotFound" if files is None else "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self._answer(content, headers=headers, send=send)

    def _is_refused(self) -> bool:
        self.hub.agents.append(self.headers.get("User-Agent", ""))
        if self.hub.refuses:
            self._answer({"error": "no"}, self.hub.refuses)
        return bool(self.hub.refuses)

    def _answer(
        self,
        body: Any,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        send: bool = True,
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if send and self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass
