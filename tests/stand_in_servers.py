"""Servers on 127.0.0.1 for tests: one serves a folder and counts, one forwards requests and breaks some."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """A server in a thread, for the length of a `with` block; `calls` are the requests it answered: `PUT /path 200`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.calls: list[str] = []
        bound = type("Bound", (handler,), {"stand_in": self, "log_message": lambda *given: None})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *given: None  # type: ignore[method-assign]  # a client that has gone
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):  # type: ignore[no-untyped-def]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class FileServer(Server):
    """Serves the files of a folder; `sent` counts the bytes of their content. Without `ranges` it sends whole files.

    With `versions` it says which version of a file it sends; `shift` bytes before those asked for are sent and named;
    after each byte it waits `pause` seconds. To HEAD it answers that a file has 0 bytes, unless it is `sized`.
    """

    def __init__(
        self, folder: Path, *, ranges: bool = True, versions: bool = False, shift: int = 0, pause: float = 0,
        sized: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(_FileHandler)
        self.folder, self.ranges, self.versions, self.sent = folder, ranges, versions, 0
        self.shift, self.pause, self.sized = shift, pause, sized


class _FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: FileServer

    def do_GET(self) -> None:
        path = self.stand_in.folder / self.path.partition("?")[0].strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "") if self.stand_in.ranges else None
        start, stop = (int(found[1]), int(found[2] or len(data) - 1) + 1) if found else (0, len(data))
        if start:
            start, stop = start - self.stand_in.shift, stop - self.stand_in.shift
        part = data[start:stop]
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        if self.stand_in.versions:
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(part) if self.stand_in.sized or self.command == "GET" else 0))
        self.end_headers()
        if self.command == "GET":
            size = 1 if self.stand_in.pause else max(len(part), 1)
            for at in range(0, len(part), size):
                self.stand_in.sent += self.wfile.write(part[at : at + size])
                time.sleep(self.stand_in.pause)

    do_HEAD = do_GET


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD path` matches: a status, `reset`, seconds, or the
    code of an error of S3."""

    pattern: re.Pattern[str]
    what: int | str | float
    times: int


class FaultyProxy(Server):
    """Forwards all requests to another server, except for those that are to go wrong."""

    def __init__(self, target: str) -> None:
        super().__init__(_ProxyHandler)
        self.target, self.faults = target.removeprefix("http://"), list[Fault]()

    def fail(self, pattern: str, what: int | str | float, times: int = 1) -> None:
        self.faults.append(Fault(re.compile(pattern), what, times))


def _name_inside(path: str, body: bytes) -> str:
    """The name of the object in the body of an upload to Google Cloud Storage, which is not in its path."""
    found = re.search(rb'"name": "(.*?)"', body) if path.endswith("uploadType=multipart") else None
    return f" {found[1].decode()}" if found else ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: FaultyProxy

    def forward(self) -> None:
        body = self.read_body()
        self.request_name = f"{self.command} {self.path}{_name_inside(self.path, body)}"
        fault = next((one for one in self.stand_in.faults if one.times and one.pattern.match(self.request_name)), None)
        if fault is not None:
            fault.times -= 1
            if self.goes_wrong(fault.what):
                return
        connection = HTTPConnection(self.stand_in.target)
        connection.request(self.command, self.path, body, {**self.headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        data = answer.read()
        self.stand_in.calls.append(f"{self.request_name} {answer.status}")
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:  # the client was killed: no store keeps what has arrived
                raise ConnectionResetError
            return body
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def goes_wrong(self, what: int | str | float) -> bool:
        """Do what a fault says; return whether the request is not forwarded."""
        if isinstance(what, float):
            time.sleep(what)
            return False
        self.stand_in.calls.append(f"{self.request_name} {what}")
        self.close_connection = True
        if what == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return True
        body = b"" if str(what).isdecimal() else f"<Error><Code>{what}</Code></Error>".encode()
        self.send_response(403 if body else int(what))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward
