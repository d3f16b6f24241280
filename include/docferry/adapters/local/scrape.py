"""A page that Prometheus scrapes, behind `ports.metrics.MetricSink`: the measurements of the last look, at any path."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from docferry.core.metric_data import PROMETHEUS, Measurement, prometheus_text
from docferry.errors import ConfigError, Problem

TIMEOUT_S = 10.0
"""A connection that asks for nothing is closed."""


class ScrapedMetrics:
    """Serves as long as the block of `with` lasts. The page holds counts and times, no document, and asks for no password: it is
    served on `host` alone.

    Raises: ConfigError, if the port cannot be had.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.lost, self.why_lost = 0, ""
        self._page = b""
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            problem = Problem(where="--metrics-port", what=f"{host}:{port}: {error}", suggestion="choose another port")
            raise ConfigError("command line", [problem]) from error
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """The one that was asked for, or for 0 the one that was free."""
        return int(self._server.server_address[1])

    def __enter__(self) -> ScrapedMetrics:
        threading.Thread(target=self._server.serve_forever, name="docferry-scrape", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        """See the port."""
        self._page = prometheus_text(migration, measurements, at_ms).encode()

    def hurry(self) -> None:
        """See the port."""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_GET(self) -> None:
                body = page._page
                self.send_response(200 if body else 503)  # before the first look there is nothing to tell
                self.send_header("Content-Type", PROMETHEUS)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Scrapes come each quarter of a minute: no lines of a log."""

        return Handler
