"""A server on 127.0.0.1 in front of DynamoDB's: each request is passed on as it is, unless a subclass answers it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

Answer = tuple[int, Mapping[str, str], bytes]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is gone is no news: processes are killed here. Everything else is told as ever."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Relay:
    """For the `with` block. Its `url` goes where the other server's would."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._own = threading.local()
        self._server = _Server(("127.0.0.1", 0), _handler(self._answer))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="relay", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, headers: Mapping[str, str], sent: bytes) -> Answer:
        return self._pass_on(headers, sent)

    def _connection(self) -> HTTPConnection:
        """One for each client's connection, which has a thread of its own."""
        if not hasattr(self._own, "connection"):
            self._own.connection = HTTPConnection(*self._upstream, timeout=60)
        found: HTTPConnection = self._own.connection
        return found

    def _pass_on(self, headers: Mapping[str, str], sent: bytes) -> Answer:
        passed = {
            name: value for name, value in headers.items() if name.lower() not in ("content-length", "connection")
        }
        connection = self._connection()
        try:
            connection.request("POST", "/", sent, passed)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            connection.close()  # the next request opens it again
            raise
        kept = ("content-type", "x-amz-crc32", "x-amzn-requestid")
        return answer.status, {name: value for name, value in answer.getheaders() if name.lower() in kept}, content


def _handler(
    answer: Callable[[Mapping[str, str], bytes], Answer],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = (
            True  # else head and body are two packets, with an acknowledgement's 40 ms between them
        )
        wbufsize = -1

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = answer(dict(self.headers.items()), sent)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: documents stay out of logs."""

    return Handler
