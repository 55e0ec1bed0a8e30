"""A Hugging Face Hub of one file, on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """What the server serves, how it misbehaves, and what it was asked."""

    content: bytes
    repository: str = "owner/repo"
    file: str = "sub/model.safetensors"
    card: dict | None = field(default_factory=lambda: {"license": "apache-2.0"})
    stored_by_hash: bool = True
    etag: str | None = None
    commit: str | None = COMMIT
    drop_after: int | None = None
    """Close the connection after so many bytes of the file."""
    ignores_ranges: bool = False
    serves: bytes | None = None
    """Bytes to send in place of the content."""
    error: tuple[int, str] | None = None
    """Status and X-Error-Code of the answers to `error_on`, or of all."""
    error_on: str | None = None
    silent_on: str | None = None
    """What is not answered for a second: HEAD, api or GET."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    @property
    def methods(self) -> list[str]:
        """What was asked: HEAD, api or GET."""
        return ["api" if path.startswith("/api/") else method for method, path, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, method: str) -> None:
        hub = self.hub
        hub.requests.append((method, self.path, self.headers.get("Range")))
        kind = hub.methods[-1]
        if hub.silent_on == kind:
            time.sleep(1)
            self.close_connection = True
        elif hub.error and hub.error_on in (None, kind):
            self._send(hub.error[0], b"", {"X-Error-Code": hub.error[1]} if hub.error[1] else {})
        elif self.path.startswith(f"/api/models/{hub.repository}/revision/"):
            info = {"id": hub.repository, "tags": [], "siblings": [], "cardData": hub.card}
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif self.path in [f"/{hub.repository}/resolve/{r}/{hub.file}" for r in ("main", "v1", COMMIT)]:
            self._send_file(method)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send_file(self, method: str) -> None:
        hub = self.hub
        etag = hub.etag or (hashlib.sha256(hub.content).hexdigest() if hub.stored_by_hash else "abc123")
        headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if hub.commit:
            headers["X-Repo-Commit"] = hub.commit
        if method == "HEAD":
            self._send(200, b"", {**headers, "Content-Length": str(len(hub.content))})
            return
        body, status, asked = hub.content if hub.serves is None else hub.serves, 200, self.headers.get("Range")
        if asked and not hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        self._send(status, body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and status in (200, 206) and "ETag" in headers and self.hub.drop_after is not None:
            body = body[: self.hub.drop_after]
            self.close_connection = True
        self.wfile.write(body)


@contextmanager
def serve(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """Run a hub on a free port of 127.0.0.1 until the block ends."""
    handler = type("Handler", (_Handler,), {"hub": hub, "timeout": 5})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
