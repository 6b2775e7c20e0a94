"""A model hub on this machine, which speaks the calls that huggingface_hub makes to fetch files."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

COMMIT = "c" * 40

#: Endings of files that lie in a repository as pointers, and are fetched from elsewhere.
LARGE = (".safetensors", ".bin", ".tar", ".parquet")


class Hub(ThreadingHTTPServer):
    """A hub.

    Attributes:
        files: by repository (``models/owner/name``), by name.
        asked: method and path of each request.
        damaged: names of files of which a byte is changed on the way.
        cut: names of files that stop half-way, once each.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[tuple[str, str]] = []
        self.damaged: set[str] = set()
        self.cut: set[str] = set()

    @property
    def address(self) -> str:
        """What ``HF_ENDPOINT`` is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetched(self, name: str) -> int:
        """Return how often the content of a file was asked for."""
        call = "/elsewhere/" if name.endswith(LARGE) else "/resolve/"
        return sum(m == "GET" and call in path and path.endswith(name) for m, path in self.asked)


@contextmanager
def in_reach(
    files: Mapping[str, Mapping[str, bytes]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Serve repositories while the block runs, as the hub that huggingface_hub asks, with its own cache."""
    with serving(files) as own:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "ENDPOINT", own.address)
        template = own.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield own


@contextmanager
def serving(files: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """Serve repositories while the block runs."""
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"
    calls: ClassVar[dict[str, str]] = {
        r"/api/(models|datasets)/([\w.-]+/[\w.-]+)(?:/revision/\w+)?": "info",
        r"(?:/(datasets))?/([\w.-]+/[\w.-]+)/resolve/\w+/(.+)": "resolve",
        r"/elsewhere/(models|datasets)/([\w.-]+/[\w.-]+)/(.+)": "elsewhere",
    }

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        for pattern, call in self.calls.items():
            found = re.fullmatch(pattern, path)
            if found is not None:
                kind, repository, *name = found.groups()
                files = self.server.files.get(f"{kind or 'models'}/{repository}")
                if files is None:
                    self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                elif name and name[0] not in files:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                else:
                    getattr(self, f"_{call}")(f"{kind or 'models'}/{repository}", files, *name)
                return
        self._send(200 if path == "/" else 404, b"")

    def _info(self, repository: str, files: Mapping[str, bytes]) -> None:
        told = {
            "id": repository.partition("/")[2],
            "sha": COMMIT,
            "siblings": [{"rfilename": name} for name in files],
        }
        self._send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repository: str, files: Mapping[str, bytes], name: str) -> None:
        content, headers = files[name], {"X-Repo-Commit": COMMIT}
        if name.endswith(LARGE):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
            # By another name of this machine: what stays on the host is followed before it is looked at.
            other = self.server.address.replace("127.0.0.1", "localhost")
            headers["Location"] = f"{other}/elsewhere/{repository}/{name}"
            self._send(302, b"", headers)
        else:
            blob = f"blob {len(content)}\0".encode() + content
            headers["ETag"] = f'"{hashlib.sha1(blob).hexdigest()}"'
            self._content(name, content, headers)

    def _elsewhere(self, repository: str, files: Mapping[str, bytes], name: str) -> None:
        self._content(name, files[name], {"ETag": '"of another kind"'})

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        if name in self.server.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        whole, start = len(content), 0
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is not None:
            start, content = int(asked[1]), content[int(asked[1]) :]
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self._send(200 if asked is None else 206, content, headers, name)

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str] | None = None, name: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in {"Accept-Ranges": "bytes", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if name in self.server.cut:
            self.server.cut.remove(name)
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)
