"""The application's calls, summed up between two publications: what is kept does not grow with the calls.

A call costs two additions under a lock. Latencies are kept to two digits: at most ninety different ones for each power of ten.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from docferry.core.metric_data import Measurement, embedded_lines
from docferry.core.metric_names import CALLS, FAILED_CALLS, QUERY_LATENCY
from docferry.ports.metrics import MetricSink

LABELS: Mapping[str, str] = {"dynamodb": "DynamoDB", "mongodb": "MongoDB"}
log = logging.getLogger("docferry.client")


class SummedMetrics:
    """`ports.client.Metrics` whose sums a thread of its own hands to a sink, every `every_s` seconds and at `close`.

    The thread begins with the first call, in each process that a fork makes, too.
    """

    def __init__(self, migration: str, sink: MetricSink, every_s: float = 60.0) -> None:
        self._migration, self._sink, self._every_s = migration, sink, every_s
        self._begin()
        atexit.register(self.close)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._latencies: dict[str, dict[float, float]] = {}
        self._failed: dict[str, int] = {}
        self._told = 0

    @property
    def lost(self) -> int:
        """Values that could not be delivered so far."""
        return self._sink.lost

    def record(self, database: str, operation: str, seconds: float, error: str = "") -> None:
        """See the port."""
        if self._pid != os.getpid():  # a child knows nothing yet, and its parent's thread is not there
            self._begin()
        latency = float(f"{seconds * 1000:.2g}")
        with self._lock:
            of_database = self._latencies.setdefault(database, {})
            of_database[latency] = of_database.get(latency, 0.0) + 1.0
            if error:
                self._failed[database] = self._failed.get(database, 0) + 1
        if self._thread is None:
            self._start()

    def count(self, name: str, number: int = 1) -> None:
        """What is counted goes into the ledger, from where flows publish it."""

    def close(self) -> None:
        """Publish what is left. What is lost by then is said, in the log `docferry.client`."""
        self._closing.set()
        self._sink.hurry()
        if self._pid != os.getpid():
            return
        self._publish()
        if self.lost > self._told:
            self._told = self.lost
            log.warning("%s values of metrics were lost, the last because: %s", self.lost, self._sink.why_lost)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="docferry-metrics", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        closing = self._closing
        while not closing.wait(self._every_s):
            try:
                self._publish()
            except Exception as error:  # noqa: BLE001 - a bug here is no reason to stop telling: said, and tried again
                log.warning("metrics could not be published: %s, a bug of ours", type(error).__name__)

    def _publish(self) -> None:
        with self._publishing:
            with self._lock:
                latencies, self._latencies = self._latencies, {}
                failed, self._failed = self._failed, {}
            found = []
            for database, counts in latencies.items():
                if label := LABELS.get(database):
                    found += [
                        Measurement(QUERY_LATENCY, counts, label),
                        Measurement.of(CALLS, sum(counts.values()), label),
                        Measurement.of(FAILED_CALLS, failed.get(database, 0), label),
                    ]
            if found:
                self._sink.publish(self._migration, found, time.time_ns() // 1_000_000)


class EmbeddedMetrics:
    """Lines in CloudWatch's embedded metric format on a stream of the application's, behind `ports.metrics.MetricSink`.

    Whatever reads the stream makes metrics of them: Lambda and the CloudWatch agent do.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lost, self.why_lost = 0, ""

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        """One write for all lines, so that lines of other writers do not come between."""
        try:
            self._stream.write("".join(f"{line}\n" for line in embedded_lines(migration, measurements, at_ms)))
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.lost += len(measurements)
            self.why_lost = f"{type(error).__name__}: {error}"

    def hurry(self) -> None:
        """See the port."""
