"""Between a process and the emulator: counts the requests that change something, and kills the process at one of them."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Passes requests on, counts those that change something, and kills `victim` at number `at` (from 1)."""

    def __init__(self, kinds: Set[str], upstream: str, at: int = 0, *, after_answer: bool = False) -> None:
        self.kinds = kinds
        self.upstream = urlsplit(upstream).netloc
        self.at, self.after_answer = at, after_answer
        self.victim: subprocess.Popen[str] | None = None
        self.changes: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def kill(self) -> None:
        assert self.victim is not None
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.wait(timeout=10)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # One packet an answer: in two, each would wait for a delayed acknowledgement (40 ms).

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = operation_of(self.command, self.path, dict(self.headers.items()), body)
                if operation in proxy.kinds:
                    proxy.changes.append(operation)
                    if len(proxy.changes) == proxy.at:
                        self._die(body)
                        return
                status, headers, answer = self._pass_on(body)
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_DELETE = do_POST

            def _die(self, body: bytes) -> None:
                if proxy.after_answer:
                    self._pass_on(body)
                proxy.kill()
                self.close_connection = True

            def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(proxy.upstream, timeout=20)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                connection.request(self.command, self.path, body, headers)
                reply = connection.getresponse()
                answer = reply.read()
                connection.close()
                return reply.status, reply.getheaders(), answer

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Handler


def operation_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """What is asked, in whichever protocol: JSON with a target, CBOR with a path, a form, REST."""
    if target := headers.get("X-Amz-Target"):
        return target.rsplit(".", 1)[-1]
    if "/operation/" in path:
        return path.rsplit("/", 1)[-1]
    if action := parse_qs(body.decode(errors="replace")).get("Action"):
        return action[0]
    parts = [part for part in path.partition("?")[0].split("/") if part and part != "backup"]
    return f"{method} {parts[2] if 'selections' in parts else parts[0]}"


@contextmanager
def serving(proxy: Proxy) -> Iterator[Proxy]:
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
